"""How a stream's events go from the instance to the client: by `EventStream` and `Outlet`, a single token in one function.

Between two tokens a model's weights have gone through the caches, and what runs then waits for memory: each function
on the way costs a microsecond where the same called in a loop takes a tenth.
"""

from collections.abc import Callable

from corral.gateway.outlet import Flow, Outlet
from corral.gateway.sse import END, ERROR_EVENTS, EventStream

LINE_END = b"\r\n"
CHUNK_END = END + LINE_END
# How a chunk of each size begins; one that is as long as this is no token.
LONG = 2048
FRAMES = tuple(b"%x\r\n" % size for size in range(LONG))


class Passage:
    """One stream's, from its first events to its end."""

    # What a token touches lies together.
    __slots__ = (
        "_events", "_flow", "_new", "_note", "_old", "_open", "_outlet", "_pieces", "_write", "sent",
    )  # fmt: skip

    def __init__(self, events: EventStream, outlet: Outlet) -> None:
        self._events, self._outlet = events, outlet
        self._old, self._new = events.rename
        self._note: Callable[[bytes], None] = events.recent.append
        self._write: Callable[[bytes], None] = outlet.transport_write
        self._flow: Flow = outlet.flow
        self._open = events.passes
        self._pieces = 0
        self.sent = 0

    def chunk(self, data: bytes) -> bool | None:
        """Pass on one whole chunk of the answer's body, its frame included, with one whole event that is a token.
        None: `data` is something else, and nothing was done. Else as `piece`."""
        if not (self._open and data.endswith(CHUNK_END)) or data.find(END) != len(data) - 4:
            return None
        start = data.find(LINE_END) + 2
        size = len(data) - start - 2
        if not 0 <= size < LONG or data[:start] != FRAMES[size]:
            return None
        if data.startswith(ERROR_EVENTS, start):
            return None
        if self._outlet.gone:
            return True
        event = data[start:-2]
        self._note(event)
        self._pieces += 1
        event = event.replace(self._old, self._new)
        self.sent += len(event)
        size = len(event)
        self._write((FRAMES[size] if size < LONG else b"%x\r\n" % size) + event + LINE_END)
        return not self._flow.write_paused

    def piece(self, data: bytes) -> bool:
        """Pass on the events that end in the next bytes of the body. False: the client must read before the next."""
        ready = self._events.feed(data)
        self._open = self._events.passes
        self.sent += len(ready)
        return self._outlet.write(ready)

    def end(self) -> None:
        """Have the events know what has gone past them."""
        self._events.pieces += self._pieces
        self._pieces = 0
