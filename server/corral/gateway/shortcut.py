"""The short way of requests to llama-server: from the last of our own layers straight to their handler.

FastAPI looks for the route, opens three stacks of things to close, solves dependencies and wraps the answer
twice (docs/adr/0009-own-reader-to-the-instance.md). Its routes for these paths remain, for the description of
the API and for other methods.
"""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.errors import CorralError
from corral.gateway.context import RequestContext
from corral.gateway.deps import Gateway
from corral.gateway.passed import PASSED, Passed
from corral.gateway.responses import send_error
from corral.gateway.routes import relay


class Pattern:
    """What the log and the metrics ask of a route."""

    def __init__(self, path: str) -> None:
        self.path = path


class Shortcut:
    """Pure ASGI, the innermost."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway
        self._ways: dict[str, tuple[Passed, Pattern]] = {
            path: (passed, Pattern(path)) for passed in PASSED for path in passed.paths
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what llama-server answers, errors too; pass all else on."""
        way = self._ways.get(scope["path"]) if scope["type"] == "http" else None
        if way is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        passed, scope["route"] = way
        try:
            answer = await relay(passed, self._gateway, scope, await read(receive))
            await answer(scope, receive, send)
        except CorralError as error:
            context = RequestContext.of(scope)
            context.failed(error)
            if not context.started:
                await send_error(send, error)


async def read(receive: Receive) -> bytes:
    """The whole body. Raises ClientDisconnect, and what `receive` raises."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
