"""What each route asks of a key. A route without a rule does not start: `check` sees to it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from corral.caller import Permission

# `nothing`: answered without a key. `key`: any key.
Need = Literal["nothing", "key"] | Permission

# Exact paths of one method (empty: of every), then whatever lies under a path. The first that fits counts.
EXACT: dict[tuple[str, str], Need] = {
    ("", "/health"): "nothing",
    ("", "/ready"): "key",
    ("", "/docs"): "key",
    ("", "/docs/oauth2-redirect"): "key",
    ("", "/redoc"): "key",
    ("", "/openapi.json"): "key",
    # What every model used, and how much: nothing for one of several users.
    ("", "/metrics"): "admin",
    # A job may name files of this machine, and what it registers is everybody's.
    ("POST", "/corral/v1/jobs"): "admin",
}
UNDER: tuple[tuple[str, str, Need], ...] = (
    ("DELETE", "/v1/models", "training"),
    ("GET", "/v1/models", "key"),
    ("GET", "/models", "key"),
    ("", "/v1/files", "files"),
    ("", "/files", "files"),
    ("", "/v1/uploads", "files"),
    ("", "/uploads", "files"),
    ("", "/v1/fine_tuning", "training"),
    ("", "/corral/v1/jobs", "training"),
    ("", "/corral/v1/keys", "admin"),
    ("", "/corral/v1/usage", "admin"),
)


def every_route(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Method and path of each, those of included routers too; no method where a route takes any."""
    for route in iter_route_contexts(routes):
        for method in sorted(route.methods or ("",)):
            yield method, str(route.path)


class Rules:
    """The rules, with the paths that llama-server answers."""

    def __init__(self, inference: Iterable[str]) -> None:
        self._inference = frozenset(inference)

    def need(self, method: str, path: str) -> Need:
        """What a request asks of its key. What no rule is about is no route (`check`), so any key may
        learn that."""
        if path in self._inference:
            return "inference"
        return self._ruled(method, path) or "key"

    def check(self, routes: Sequence[BaseRoute]) -> None:
        """Raise RuntimeError for a route that no rule is about."""
        for method, path in every_route(routes):
            if path not in self._inference and self._ruled(method, path) is None:
                raise RuntimeError(f"{method} {path} has no rule in corral/gateway/rules.py")

    def _ruled(self, method: str, path: str) -> Need | None:
        for wanted in ((method, path), ("", path)):
            if wanted in EXACT:
                return EXACT[wanted]
        for verb, prefix, need in UNDER:
            if verb in ("", method) and (path == prefix or path.startswith(prefix + "/")):
                return need
        return None
