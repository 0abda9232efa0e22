"""Who may ask: API keys, and names of this host.

With keys set, every route but `/health` needs one. Without keys (loopback only, see
`corral.cli.serve`) any Authorization header is accepted, but the Host header must name this
machine: else a web page could reach the server through a name of its own that resolves to
127.0.0.1. Does not cover: other users of this machine, who can reach loopback too.
"""

import hashlib
import hmac
from collections.abc import Iterable

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.errors import AuthenticationError, PermissionDenied
from corral.settings import LOOPBACK_HOSTS, Settings, is_loopback_name

OPEN_PATHS = ("/health",)
CALLER = "corral.caller"


def caller(scope: Scope) -> str:
    """Who asks: the same text for the same API key, and empty where none is needed."""
    name: str = scope.get(CALLER, "")
    return name


class AuthMiddleware:
    """Pure ASGI: refuses before a byte of the body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._digests = [_digest(key) for key in _secrets(settings.api_keys)]
        self._hosts = {*LOOPBACK_HOSTS, settings.host, *settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise what the outer middleware turns into an answer."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            headers = dict(scope["headers"])
            if self._digests:
                scope[CALLER] = self._check_key(headers)
            else:
                self._check_host(headers)
        await self._app(scope, receive, send)

    def _check_key(self, headers: dict[bytes, bytes]) -> str:
        sent = headers.get(b"authorization", b"")
        scheme, _, token = sent.partition(b" ")
        # Anthropic's clients send the key in a header of its own.
        key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if not key:
            raise AuthenticationError(
                "no API key; send `Authorization: Bearer KEY` with one of the keys of this server",
                code="missing_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        digest = _digest(key)
        # Every key is compared, so that the time does not tell which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise AuthenticationError(
                "this API key is not one of the keys of this server",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return digest.hex()[:16]

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = _host_name(headers.get(b"host", b"").decode("latin-1"))
        if host and host not in self._hosts and not is_loopback_name(host):
            raise PermissionDenied(
                f"the Host header names `{host}`; without API keys only {sorted(self._hosts)} are "
                "answered. Set `api_keys`, or add the name to `allowed_hosts`",
                code="host_not_allowed",
            )


def _host_name(host: str) -> str:
    """`name:8000`, `[::1]:8000` and `name` without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _secrets(keys: Iterable[SecretStr]) -> list[bytes]:
    return [key.get_secret_value().encode() for key in keys]


def _digest(key: bytes) -> bytes:
    # Hashed, so that the comparison takes the same time for every length.
    return hashlib.sha256(key).digest()
