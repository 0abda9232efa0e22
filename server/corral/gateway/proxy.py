"""Relay one request to llama-server and its answer back, byte by byte.

The client going away, and Corral stopping, end the upstream request, which frees its slot. An
upstream that breaks off before the first byte is an HTTP error; after it, an error event and the
end of the stream.
"""

import time
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.errors import CorralError, NotReady, UpstreamError, UpstreamTimeout
from corral.gateway.admission import Admission, Seat
from corral.gateway.answers import whole
from corral.gateway.context import RequestContext
from corral.gateway.cut import Cut, Stopping
from corral.gateway.figures import of_whole
from corral.gateway.outlet import Outlet
from corral.gateway.passage import Passage
from corral.gateway.responses_shape import ResponsesShape
from corral.gateway.slots import pinned
from corral.gateway.sse import Dialect, EventStream, error_event, renaming
from corral.gateway.structured import Form, UnfitAnswer, another_try, as_unfit
from corral.gateway.structured_stream import CheckedStream
from corral.gateway.upstream_errors import translate, translate_event
from corral.runtime.connection import Connection
from corral.runtime.upstream import Runtime

EVENT_STREAM = b"text/event-stream"
BROKE_OFF = "llama-server ended in the middle of the answer; what came before may be incomplete"


# Not frozen: one is made for each request, and each field would be set by a call.
@dataclass(slots=True)
class Exchange:
    """What to ask of llama-server, and under which name to answer. `seat` is what the request takes
    there while it runs; None for what needs no slot. `tier` is told in the answer. An answer that has
    not the `form` is asked for `retries` times more while nothing of it has been sent."""

    path: str
    body: bytes
    section: str
    asked: str
    dialect: Dialect
    prompt: str
    seat: Seat | None = None
    tier: str | None = None
    stream: bool = False
    shape: ResponsesShape | None = None
    form: Form | None = None
    retries: int = 0


class Relay(Response):
    """An ASGI response that is the whole exchange with llama-server.

    Holds its section from the moment it is made, so that a changed set of adapters cannot end the
    instance before the answer is complete.
    """

    def __init__(
        self,
        runtime: Runtime,
        admission: Admission,
        stopping: Stopping,
        exchange: Exchange,
    ) -> None:
        self._runtime = runtime
        self._admission = admission
        self._stopping = stopping
        self._exchange = exchange
        self.background = None
        runtime.board.hold(exchange.section)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run until the answer is complete, the client has gone, or Corral stops."""
        context = RequestContext.of(scope)
        try:
            outlet = Outlet.of(scope)
            why = "client_gone" if outlet.gone else "stopped" if self._stopping.is_set() else ""
            if not why:
                with Cut(outlet, self._stopping) as cut:
                    await self._answer(send, context, outlet)
                why = cut.why
            if why:
                context.outcome = context.outcome or why
            if why == "stopped":
                await self._break_off(send, context)
        finally:
            self._runtime.board.release(self._exchange.section)

    async def _answer(self, send: Send, context: RequestContext, outlet: Outlet) -> None:
        seat = self._exchange.seat
        if seat is None:
            await self._ask(self._exchange.body, send, context, outlet)
            return
        came = time.perf_counter()
        async with self._admission.seat(seat) as slot:
            context.queued = time.perf_counter() - came
            await self._ask(pinned(self._exchange.body, slot), send, context, outlet)

    async def _ask(self, body: bytes, send: Send, context: RequestContext, outlet: Outlet) -> None:
        left = self._exchange.retries
        while True:
            try:
                await self._once(body, send, context, outlet)
                return
            except UnfitAnswer:
                if not left or context.started:
                    raise
            left -= 1
            body = another_try(body)

    async def _once(self, body: bytes, send: Send, context: RequestContext, outlet: Outlet) -> None:
        exchange = self._exchange
        response = await self._runtime.post(
            exchange.section, exchange.path, body, stream=exchange.stream
        )
        try:
            if response.status != 200:
                error = translate(response.status, await _read(response), exchange.prompt)
                raise as_unfit(error, exchange.form)
            if response.content_type.startswith(EVENT_STREAM):
                await self._stream(response, send, context, outlet)
            else:
                await self._whole(response, send, context, outlet)
        finally:
            response.end()

    async def _whole(
        self, response: Connection, send: Send, context: RequestContext, outlet: Outlet
    ) -> None:
        raw = await _read(response)
        # The router marks an instance's death only in the body, after what had come until then.
        if raw.rstrip()[-1:] not in (b"}", b"]"):
            raise UpstreamError(BROKE_OFF, headers={"Retry-After": "1"})
        context.spent(of_whole(raw))
        old, new = renaming(self._exchange.section, self._exchange.asked, self._exchange.tier)
        shape = self._exchange.shape
        body = shape.whole(raw) if shape else raw.replace(old, new)
        if self._exchange.form is not None:
            self._exchange.form.require(whole(self._exchange.dialect, body))
        headers = [
            (b"content-type", response.content_type or b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        outlet.join_writes()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(
        self, response: Connection, send: Send, context: RequestContext, outlet: Outlet
    ) -> None:
        exchange = self._exchange
        rename = renaming(exchange.section, exchange.asked, exchange.tier)
        if exchange.form is None:
            events = EventStream(exchange.dialect, rename, exchange.shape)
        else:
            events = CheckedStream(exchange.dialect, rename, exchange.shape, exchange.form)
        try:
            await self._relay(response, send, context, events, outlet)
        finally:
            # Also when the client has gone: llama-server has worked all the same.
            context.spent(events.figures())

    async def _relay(
        self,
        response: Connection,
        send: Send,
        context: RequestContext,
        events: EventStream,
        outlet: Outlet,
    ) -> None:
        exchange = self._exchange
        broken: CorralError | None = None
        first = await _first(response, events)
        outlet.join_writes()
        await send(_stream_start())
        context.stream_began(exchange.dialect)
        await send(_body(first))

        passage = Passage(events, outlet)
        try:
            while not await response.pour(passage.piece, passage):
                await outlet.drain()
        except TimeoutError:
            broken = UpstreamTimeout("llama-server went silent (setting `upstream_timeout`)")
        except ConnectionError:
            await self._runtime.settle(exchange.section)
            broken = UpstreamError(BROKE_OFF)
        finally:
            passage.end()
            context.sent += passage.sent
        if events.fault is not None:
            broken = events.fault
        elif events.error is not None:
            broken = as_unfit(translate_event(events.error), exchange.form)
        elif broken is None and not events.complete:
            broken = UpstreamError(BROKE_OFF)
        if broken is not None:
            context.failed(broken)
        await send(_body(error_event(exchange.dialect, broken.body()) if broken else b"", end=True))

    async def _break_off(self, send: Send, context: RequestContext) -> None:
        """Corral stops: an error event when the stream has begun, else an HTTP error."""
        error = NotReady("Corral is stopping; the answer is incomplete")
        if not context.started:
            raise error
        context.failed(error)
        if context.stream_dialect is not None:
            await send(_body(error_event(context.stream_dialect, error.body()), end=True))


async def _first(response: Connection, events: EventStream) -> bytes:
    """The first whole events. An upstream that ends before them is still an HTTP error."""
    try:
        while data := await response.read():
            ready = events.feed(data)
            if ready:
                return ready
            if events.fault is not None:
                raise events.fault
            if events.error is not None:
                raise translate_event(events.error)
    except TimeoutError:
        raise UpstreamTimeout("llama-server sent no token (setting `upstream_timeout`)") from None
    except ConnectionError:
        pass
    raise UpstreamError(
        "llama-server ended before the first token; it is being restarted, try again",
        headers={"Retry-After": "1"},
    )


async def _read(response: Connection) -> bytes:
    try:
        return await response.body()
    except TimeoutError:
        raise UpstreamTimeout("llama-server went silent (setting `upstream_timeout`)") from None
    except ConnectionError:
        raise UpstreamError(BROKE_OFF, headers={"Retry-After": "1"}) from None


def _stream_start() -> dict[str, object]:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(data: bytes, *, end: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": not end}
