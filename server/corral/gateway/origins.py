"""Which web pages may ask: those of this server, and those in `cors_origins`.

A browser lets any page send some requests anywhere (a form's POST, with a body of any text) and only
hides the answer. So a request for a foreign page is refused before it does anything, not merely
answered without the headers that would show it. Does not cover: programs, which may send any Origin.
"""

from collections.abc import Awaitable, Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.errors import PermissionDenied

READABLE = ("x-request-id", "retry-after")


class CORSHeaders:
    """Outermost: answers the preflights of allowed pages, and lets them read answers."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}
        self._allowed = CORSMiddleware(
            app,
            allow_origins=tuple(origins),
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=READABLE,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on."""
        listed = self._origins and scope["type"] == "http" and _header(scope, b"origin")
        app = self._allowed if listed in self._origins else self._app
        return app(scope, receive, send)


class OriginCheck:
    """Refuses what a browser sends for a page that is not this server's nor allowed."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or raise what the outer middleware turns into an answer."""
        if scope["type"] == "http" and (origin := _header(scope, b"origin")):
            # Host is what the browser itself connected to; a page cannot set it.
            own = origin.partition(b"://")[2] == _header(scope, b"host")
            if not own and origin not in self._origins:
                shown = origin[:100].decode("latin-1")
                raise PermissionDenied(
                    f"a web page of `{shown}` may not ask this server; add it to `cors_origins` to let it",
                    code="origin_not_allowed",
                )
        return self._app(scope, receive, send)


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""
