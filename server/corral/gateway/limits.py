"""How much and how slowly a client may send."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.errors import BadRequest, PayloadTooLarge, RequestTimeout
from corral.gateway.outlet import KEY, Outlet
from corral.settings import Settings

# After a refusal the rest of the body is thrown away for this long, so that a client that writes
# everything before it reads still gets to see the answer.
DISCARD_SECONDS = 2.0
CLOSE = {"Connection": "close"}


# For a path that takes files: how long its body may be, and what to raise beyond that.
FileLimit = Callable[[str], tuple[int, PayloadTooLarge] | None]


class LimitMiddleware:
    """Reading a body that is too large or too slow raises inside the route. A body of
    files may be as large as `file_limit` says, and take its time as long as it keeps coming."""

    def __init__(
        self, app: ASGIApp, settings: Settings, file_limit: FileLimit = lambda path: None
    ) -> None:
        self._app = app
        self._max_body = settings.max_body_bytes
        self._seconds = settings.body_timeout
        self._file_limit = file_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on with a receive that counts and times the body."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        limit, error = self._file_limit(scope["path"]) or (self._max_body, None)
        declared = _declared_length(scope)
        # Where another server runs Corral there is none; a body that is there needs no clock.
        waits = KEY not in scope or not Outlet.of(scope).has_body
        if not waits and declared is not None and declared <= limit:
            return self._app(scope, receive, send)
        body = _CountedBody(receive, declared or 0, limit, self._seconds, error)
        body.waits = waits

        async def send_then_discard(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and body.refused):
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_discard(receive), DISCARD_SECONDS)
            await send({"type": "http.response.body", "body": b""})

        return self._app(scope, body.receive, send_then_discard)


class _CountedBody:
    def __init__(
        self,
        receive: Receive,
        declared: int,
        limit: int,
        seconds: float,
        file_error: PayloadTooLarge | None,
    ) -> None:
        self._receive, self._limit, self._seconds = receive, limit, seconds
        self._file_error = file_error
        self._seen, self._complete = 0, False
        self._deadline: float | None = None
        self.refused, self.waits = False, True
        self._check(declared)

    async def receive(self) -> Message:
        if self.refused:
            raise self._too_large()
        if self._complete:
            return await self._receive()
        message = await (self._timed() if self.waits else self._receive())
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._check(self._seen)
            if self.refused:
                raise self._too_large()
        return message

    def _check(self, size: int) -> None:
        self.refused = size > self._limit

    def _too_large(self) -> PayloadTooLarge:
        if self._file_error is not None:
            told = self._file_error
            return PayloadTooLarge(told.message, param=told.param, headers=CLOSE)
        return PayloadTooLarge(
            f"the body is over {self._limit} bytes (setting `max_body_bytes`); send less",
            headers=CLOSE,
        )

    async def _timed(self) -> Message:
        now = asyncio.get_running_loop().time()
        if self._deadline is None or self._file_error is not None:
            self._deadline = now + self._seconds
        try:
            # Not `wait_for`, which makes a task.
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout(
                f"the body did not arrive within {self._seconds:g} s (setting `body_timeout`)",
                headers=CLOSE,
            ) from None


def _declared_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise BadRequest("the Content-Length header is no number")
            return int(value)
    return None


async def _discard(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
