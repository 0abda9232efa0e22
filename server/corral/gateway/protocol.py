"""uvicorn's HTTP protocol with limits on a client's time: over its headers, and to take its answer."""

import asyncio
import inspect
import json
import logging
import re
import socket

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from corral.errors import BadRequest, StartupError
from corral.gateway import outlet
from corral.gateway.context import KEY, RequestContext, new_request_id

logger = logging.getLogger("corral.gateway")

# A client that takes less of what waits for it in `stall_timeout` has stopped reading. A few bytes do
# not count: it could hold a slot for hours with them.
LEAST_TAKEN = 4096
# Bytes that the kernel keeps for a client beyond what is on its way. Linux took 2.8 MB for one that does
# not read; and it told of room again only when 0.8 MB were read, so a slow reader looked like none.
UNSENT_MOST = 64 * 1024
# What Corral leans on in uvicorn and uvicorn promises nobody (docs/adr/0009-own-reader-to-the-instance.md).
INNER: dict[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        "loop", "transport", "flow", "cycle", "scope", "send_400_response", "data_received",
        "on_message_begin", "on_headers_complete", "pause_writing", "resume_writing",
    ),
    FlowControl: ("write_paused", "resume_reading", "drain"),
    RequestResponseCycle: (
        "disconnected", "response_complete", "chunked_encoding", "more_body", "transport",
    ),
}  # fmt: skip


def check() -> None:
    """StartupError when this uvicorn lacks one of those names, which a request would only stumble over."""
    lacking = [
        f"{part.__name__}.{name}"
        for part, names in INNER.items()
        for name in names
        # An instance's attributes are not there yet: the source speaks of them.
        if not re.search(rf"\b(def |self\.){name}\b", inspect.getsource(part))
    ]
    if lacking:
        raise StartupError(
            f"uvicorn {uvicorn.__version__} has no {', '.join(lacking)}, which Corral needs; install the "
            "version in requirements/base.txt"
        )


class TimedProtocol(HttpToolsProtocol):
    """Closes a connection whose first request line and headers do not arrive in time, and one whose
    answer is not taken.

    uvicorn times idle connections between requests, not a client that sends headers by drops; and it
    waits for ever until what it has written is read. It writes no more meanwhile, and so Corral reads
    no more from upstream: what waits is bounded.

    Requests that come ahead of their turn wait, and after the first of them uvicorn reads no more. Not covered:
    a client that goes then is noticed only when the next byte is written to it.
    """

    header_timeout: float = 10.0
    stall_timeout: float = 60.0

    @classmethod
    def with_timeouts(cls, header: float, stall: float) -> type["TimedProtocol"]:
        """The protocol class for a server with these limits."""
        return type("Protocol", (cls,), {"header_timeout": header, "stall_timeout": stall})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        _keep_little_unsent(transport.get_extra_info("socket"))
        # Those not answered yet: more than one where some came ahead of their turn.
        self._asked: list[tuple[outlet.Outlet, Scope]] = []
        self._in_headers = False
        self._headers_due: asyncio.TimerHandle | None = None
        self._taking_due: asyncio.TimerHandle | None = None
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Nearly all headers come in one piece: a timer is for those that do not."""
        super().data_received(data)
        if self._in_headers and self._headers_due is None and not self.transport.is_closing():
            self._arm()

    def on_message_begin(self) -> None:
        """A request line has begun to arrive."""
        super().on_message_begin()
        self._in_headers = True

    def on_headers_complete(self) -> None:
        """The headers are there: the body has limits of its own."""
        self._in_headers = False
        self._disarm()
        super().on_headers_complete()
        # Its task has been made, and has not begun.
        scope: Scope = self.scope  # type: ignore[assignment]
        # mypy sees that an outlet may give a cycle another transport.
        way = outlet.Outlet(self.transport, self.flow, self.cycle)  # type: ignore[arg-type]
        scope[outlet.KEY] = way
        self._asked = [*self._unanswered(), (way, scope)]

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the envelope too."""
        error = BadRequest(f"this is no HTTP request: {msg}", code="invalid_http")
        body = json.dumps(error.body()).encode()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n"
            b"content-type: application/json\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n"
            b"x-request-id: " + new_request_id().encode() + b"\r\n"
            b"connection: close\r\n\r\n" + body
        )
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers with the connection."""
        self._disarm()
        self._taken()
        super().connection_lost(exc)
        for way, _ in self._asked:
            way.lost()

    def pause_writing(self) -> None:
        """So much waits to be read by the client that nothing more is written."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """The client has read most of it."""
        super().resume_writing()
        self._taken()

    def _await_taking(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._taking_due = self.loop.call_later(self.stall_timeout, self._check_taking)

    def _check_taking(self) -> None:
        if self._unread - self.transport.get_write_buffer_size() >= LEAST_TAKEN:
            self._await_taking()
            return
        for _, scope in self._unanswered()[:1]:
            context = scope.get(KEY)
            if isinstance(context, RequestContext):
                context.outcome = "stalled"
        logger.warning("a client has stopped reading its answer; its connection is closed")
        self.transport.abort()

    def _taken(self) -> None:
        if self._taking_due is not None:
            self._taking_due.cancel()
            self._taking_due = None

    def _unanswered(self) -> list[tuple[outlet.Outlet, Scope]]:
        return [(way, scope) for way, scope in self._asked if way.wanted]

    def _arm(self) -> None:
        self._headers_due = self.loop.call_later(self.header_timeout, self._check_headers)

    def _check_headers(self) -> None:
        # While an answer is under way the rest of a request that came ahead may wait unread.
        if self._unanswered():
            self._arm()
        else:
            self.transport.close()

    def _disarm(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None


def _keep_little_unsent(connection: socket.socket | None) -> None:
    # A name that only some systems have; where it is missing their kernel's own limits hold.
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_MOST)
