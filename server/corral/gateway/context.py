"""What is known about one request: its id, its model, its course. The outermost middleware.

Gives every answer an `x-request-id`, turns errors that reach it into the envelope, has each request
logged and counted. Never logs a body, a key, or a query string.
"""

import itertools
import logging
import re
import secrets
import time
from typing import Protocol, Self

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.errors import CorralError
from corral.gateway.figures import Figures
from corral.gateway.responses import send_error
from corral.gateway.sse import Dialect

errors = logging.getLogger("corral.gateway")

KEY = "corral"
# What a client's own request id may look like; anything else is replaced, so that logs stay sane.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}\Z")
# An uploaded file that says it is text must not run as a page in a browser.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
INTERNAL = "an internal error; the log has it under this answer's x-request-id"


class RequestContext:
    """One per request, in the ASGI scope. Routes note here what only they know."""

    def __init__(self, scope: Scope) -> None:
        self.id = _request_id(scope)
        self.began = time.perf_counter()
        self.model = ""
        self.status = 0
        self.sent = 0
        self.error = ""
        self.outcome = ""
        self.first_byte: float | None = None
        self.stream_dialect: Dialect | None = None
        # How long the request waited for its slot; None where it needed none.
        self.queued: float | None = None
        # What llama-server said of the answer; None where it said nothing.
        self.figures: Figures | None = None

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """The context that the middleware put into `scope`."""
        context: Self = scope[KEY]
        return context

    @property
    def started(self) -> bool:
        """Whether the answer's status has gone out."""
        return self.status != 0

    def stream_began(self, dialect: Dialect) -> None:
        """The answer is a stream of events of this dialect."""
        self.stream_dialect = dialect

    def spent(self, figures: Figures | None) -> None:
        """Note the figures of an answer; of a second one for the same request they add up."""
        if figures is not None:
            self.figures = figures if self.figures is None else self.figures + figures

    def failed(self, error: CorralError) -> None:
        """Note an error for the log, also one that the status can no longer tell."""
        self.error = error.code


class Watcher(Protocol):
    """Who wants to know of each request (`corral.gateway.accounting`)."""

    def begin(self) -> None:
        """One has come."""

    def end(self, scope: Scope, context: RequestContext) -> None:
        """It has been answered, or will not be."""


class ContextMiddleware:
    """Pure ASGI: sees each message once and buffers nothing."""

    def __init__(self, app: ASGIApp, watcher: Watcher) -> None:
        self._app, self._watcher = app, watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with a fresh context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = scope[KEY] = RequestContext(scope)

        async def tap(message: Message) -> None:
            _note(context, message)
            await send(message)

        self._watcher.begin()
        try:
            await self._app(scope, receive, tap)
        except CorralError as error:
            await _answer_error(context, tap, error)
        except ClientDisconnect:
            # In the middle of its body: there is nobody to answer, and nothing went wrong here.
            context.outcome = "client_gone"
        # The edge of a request: a bug must become an answer, not a dropped connection.
        except Exception:  # noqa: BLE001
            errors.exception("unhandled error", extra={"request_id": context.id})
            await _answer_error(context, tap, CorralError(INTERNAL))
        finally:
            self._watcher.end(scope, context)


def _note(context: RequestContext, message: Message) -> None:
    if message["type"] == "http.response.start":
        context.status = message["status"]
        own = (b"x-request-id", context.id.encode())
        message["headers"] = [*message.get("headers", ()), own, NO_SNIFFING]
    elif message["type"] == "http.response.body":
        context.sent += len(message.get("body", b""))
        if context.first_byte is None and message.get("body"):
            context.first_byte = time.perf_counter()


async def _answer_error(context: RequestContext, send: Send, error: CorralError) -> None:
    context.failed(error)
    if not context.started:
        await send_error(send, error)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.match(value):
            text: str = value.decode("ascii")
            return text
    return new_request_id()


# No secret, and not to be mistaken for another process's.
_OURS, _numbers = f"req_{secrets.token_hex(8)}", itertools.count(1)


def new_request_id() -> str:
    """An id for a request that brought none."""
    return f"{_OURS}{next(_numbers):08x}"
