"""Who may ask: API keys, what each may do, and names of this host.

Once there are keys, every route but `/health` needs one (`corral.gateway.rules` says with which scope).
Without keys (loopback only, see `corral.preflight`) any Authorization header is accepted, but the Host
header must name this machine: else a web page could reach the server through a name of its own that
resolves to 127.0.0.1. Does not cover: other users of this machine, who can reach loopback too.
"""

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.asking import CALLER
from corral.caller import Caller
from corral.errors import AuthenticationError, PermissionDenied
from corral.gateway.context import RequestContext
from corral.gateway.rules import Need, Rules
from corral.settings import LOOPBACK_HOSTS, Settings, is_loopback_name

CHALLENGE = {"WWW-Authenticate": "Bearer"}
LIMIT_HEADERS = b"x-ratelimit-"


class Account(Protocol):
    """One key's, as the gateway sees it."""

    caller: Caller

    def enter(self) -> float:
        """A request for inference begins; what to give to `leave`. Raises RateLimited."""

    def leave(
        self, entered: float, model: str, failed: bool, prompt: int, cached: int, generated: int
    ) -> None:
        """It has ended."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What it may still ask, for the answer."""


class Doorkeeper(Protocol):
    """Knows the keys. What the middleware needs of `corral.keys`, which the gateway does not import."""

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""

    @property
    def anybody(self) -> Account:
        """Whoever comes while none is."""

    def find(self, secret: bytes) -> Account | None:
        """Whose key this is."""


class AuthMiddleware:
    """Refuses before a byte of the body is read."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Doorkeeper, rules: Rules) -> None:
        self._app, self._keys, self._rules = app, keys, rules
        self._hosts = {*LOOPBACK_HOSTS, settings.host, *settings.allowed_hosts}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or raise what the outer middleware turns into an answer."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        need = self._rules.need(scope["method"], scope["path"])
        if need == "nothing":
            return self._app(scope, receive, send)
        account = self._let_in(dict(scope["headers"]))
        scope[CALLER] = account.caller
        _check_scope(account.caller, need)
        if need == "inference":
            return self._counted(account, scope, receive, send)
        return self._app(scope, receive, send)

    async def _counted(self, account: Account, scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        entered = account.enter()
        headers = account.headers()
        failed = True
        try:
            await self._app(scope, receive, _with(send, headers) if headers else send)
            failed = context.status >= 400 or bool(context.error)
        finally:
            told = context.figures
            counts = (told.prompt, told.cached, told.generated) if told else (0, 0, 0)
            account.leave(entered, context.model, failed, *counts)

    def _let_in(self, headers: dict[bytes, bytes]) -> Account:
        if not self._keys.closed:
            self._check_host(headers)
            return self._keys.anybody
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Anthropic's clients send the key in a header of its own.
        key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if not key:
            raise AuthenticationError(
                "no API key; send `Authorization: Bearer KEY` with one of the keys of this server",
                code="missing_api_key",
                headers=CHALLENGE,
            )
        account = self._keys.find(key)
        if account is None:
            # The same for a key that was revoked or has expired: whoever finds one learns nothing of it.
            raise AuthenticationError(
                "this API key is not one of the keys of this server, or is no longer",
                headers=CHALLENGE,
            )
        return account

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = _host_name(headers.get(b"host", b"").decode("latin-1"))
        if host and host not in self._hosts and not is_loopback_name(host):
            raise PermissionDenied(
                f"the Host header names `{host}`; without API keys only {sorted(self._hosts)} are "
                "answered. Set `api_keys`, or add the name to `allowed_hosts`",
                code="host_not_allowed",
            )


def _check_scope(caller: Caller, need: Need) -> None:
    if need != "nothing" and need != "key" and not caller.may(need):
        raise PermissionDenied(
            f"this needs an API key with the scope `{need}`; this key has: "
            f"{', '.join(f'`{name}`' for name in sorted(caller.scopes))}",
            code="missing_scope",
        )


def _with(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def send_with_headers(message: Message) -> None:
        # A refusal further in (the queue is full) has said it already, and better.
        if message["type"] == "http.response.start":
            sent = message.get("headers", ())
            if not any(name.startswith(LIMIT_HEADERS) for name, _ in sent):
                message["headers"] = [*sent, *headers]
        await send(message)

    return send_with_headers


def _host_name(host: str) -> str:
    """`name:8000`, `[::1]:8000` and `name` without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
