"""The way out for the tokens of a stream, past the layers of ASGI's `send`.

A stream's beginning and end go through every layer, which note its status, headers and end. What is between
them is only written: six layers of coroutines cost more than the write, and asked for a task to wake up.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.types import Scope

from corral.errors import CorralError

KEY = "corral.outlet"
NO_FILE = -1
FOREIGN = (
    "start Corral with `corral serve`: its limits on a client's time, and the way of its tokens past the "
    "layers of ASGI, are in a protocol of its own for uvicorn, which another server does not have"
)


class Cycle(Protocol):
    """uvicorn's request and answer, as far as it is looked at."""

    disconnected: bool
    response_complete: bool
    more_body: bool
    transport: "Transport"


class Transport(Protocol):
    """What a cycle does with its transport."""

    def write(self, data: bytes) -> None:
        """Send."""

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""

    def close(self) -> None:
        """Send what waits, then end the connection."""


class Together:
    """Stands in for a cycle's transport until its next two writes have gone out as one: the head of an answer
    alone would wake a client that can do nothing with it."""

    def __init__(self, cycle: Cycle) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._held = b""

    def write(self, data: bytes) -> None:
        """Keep the first, send both with the second."""
        if not self._held:
            self._held = data
            return
        self._cycle.transport = self._transport
        self._transport.write(self._held + data)

    def is_closing(self) -> bool:
        """As the transport."""
        return self._transport.is_closing()

    def close(self) -> None:
        """The second write never came."""
        self._cycle.transport = self._transport
        self._transport.write(self._held)
        self._transport.close()


class Flow(Protocol):
    """uvicorn's knowledge of how much waits for the client."""

    write_paused: bool

    def resume_reading(self) -> None:
        """Go on reading what the client sends."""

    async def drain(self) -> None:
        """Wait until it is little."""


class Outlet:
    """One request's. Write only between the start of a chunked answer and its end."""

    def __init__(self, transport: asyncio.WriteTransport, flow: Flow, cycle: Cycle) -> None:
        self.transport, self.flow, self._cycle = transport, flow, cycle
        self._tell: Callable[[], None] | None = None
        self.gone = False

    @classmethod
    def of(cls, scope: Scope) -> "Outlet":
        """The outlet that the protocol has put into `scope`. CorralError where another server runs Corral."""
        outlet: Outlet | None = scope.get(KEY)
        if outlet is None:
            raise CorralError(FOREIGN)
        return outlet

    @property
    def wanted(self) -> bool:
        """Whether its request may still be answered."""
        return not self._cycle.response_complete

    @property
    def file(self) -> int:
        """Where what the transport writes goes as it is, or NO_FILE: to be used until the client has `gone`, and while
        nothing waits in the transport."""
        connection = self.transport.get_extra_info("socket")
        if connection is None or self.transport.get_extra_info("sslcontext") is not None:
            return NO_FILE
        number: int = connection.fileno()
        return number

    @property
    def has_body(self) -> bool:
        """Whether all of the request's body is there."""
        return not self._cycle.more_body

    def join_writes(self) -> None:
        """Send the answer's head with the first piece of its body, which follows at once."""
        self._cycle.transport = Together(self._cycle)

    def when_gone(self, tell: Callable[[], None] | None) -> None:
        """Call `tell`, once, when the client goes away; None: nobody wants to know any more."""
        self._tell = tell
        if tell is not None:
            # uvicorn stops reading after a long body, and would not see that the client goes.
            self.flow.resume_reading()

    def lost(self) -> None:
        """The client has gone."""
        self.gone = True
        # uvicorn tells the last request of a connection alone, which is another one where some came ahead.
        self._cycle.disconnected = True
        if self._tell is not None:
            self._tell()

    def write(self, data: bytes) -> bool:
        """Send a piece of the body now. False: so much waits for the client that `drain` must come
        before the next one."""
        # An empty chunk would end the answer. To a client that has gone uvicorn's `send` says nothing
        # either: who has to know is told otherwise.
        if not data or self._cycle.disconnected:
            return True
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return not self.flow.write_paused

    async def drain(self) -> None:
        """Wait until the client has taken what waited, or has gone."""
        await self.flow.drain()
