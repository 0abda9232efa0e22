"""What is known about one request: its id, its model, its course. The outermost middleware.

Gives every answer an `x-request-id`, turns errors that reach it into the envelope, writes one log
line and the metrics per request. Never logs a body, a key, or a query string.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Self

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.errors import CorralError
from corral.gateway.figures import Figures
from corral.gateway.responses import send_error
from corral.gateway.sse import Dialect
from corral.metrics import Metrics

access = logging.getLogger("corral.access")
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


# What a trace makes of a request that has ended: its context, its route's pattern, its seconds.
Traced = Callable[[Scope, RequestContext, str, float], None]


class ContextMiddleware:
    """Pure ASGI: sees each message once and buffers nothing."""

    def __init__(self, app: ASGIApp, metrics: Metrics, traced: Traced | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with a fresh context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = scope[KEY] = RequestContext(scope)

        async def tap(message: Message) -> None:
            _note(context, message)
            await send(message)

        with self._metrics.in_flight.track_inprogress():
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
                self._finish(scope, context)

    def _finish(self, scope: Scope, context: RequestContext) -> None:
        elapsed = time.perf_counter() - context.began
        route = _route(scope)
        answered = context.status == 200 and context.first_byte is not None
        ttft = context.first_byte - context.began if answered and context.first_byte else None
        self._metrics.observe(route, context.model, context.status, context.error, elapsed, ttft)
        self._count_tokens(context)
        if self._traced is not None:
            self._traced(scope, context, route, elapsed)
        if access.isEnabledFor(logging.INFO):
            access.handle(_record(_line(scope, context, route, elapsed, ttft)))

    def _count_tokens(self, context: RequestContext) -> None:
        if context.queued is not None:
            self._metrics.queued(context.model, context.queued)
        if (told := context.figures) is not None:
            self._metrics.spent(
                context.model,
                told.prompt,
                told.cached,
                told.generated,
                told.prompt_seconds,
                told.generation_seconds,
            )


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


def _route(scope: Scope) -> str:
    """The route's pattern, never the raw path: that would be a label without bounds."""
    route = scope.get("route")
    return getattr(route, "path", "") or "unmatched"


def _record(fields: dict[str, Any]) -> logging.LogRecord:
    """What `access.info` would make, without the search for the line of code that has called it."""
    record = logging.LogRecord(access.name, logging.INFO, "", 0, "request", (), None)
    record.__dict__.update(fields)
    return record


def _line(
    scope: Scope, context: RequestContext, route: str, elapsed: float, ttft: float | None
) -> dict[str, Any]:
    figures = context.figures
    return {
        "request_id": context.id,
        "method": scope["method"],
        "route": route,
        "model": context.model,
        "status": context.status,
        "error": context.error,
        "outcome": context.outcome,
        "ms": round(elapsed * 1000, 1),
        "ttft_ms": None if ttft is None else round(ttft * 1000, 1),
        "bytes": context.sent,
        "queue_ms": None if context.queued is None else round(context.queued * 1000, 1),
        "prompt_tokens": figures and figures.prompt,
        "cached_tokens": figures and figures.cached,
        "generated_tokens": figures and figures.generated,
    }


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.match(value):
            text: str = value.decode("ascii")
            return text
    return new_request_id()


def new_request_id() -> str:
    """An id for a request that brought none."""
    return "req_" + secrets.token_hex(12)
