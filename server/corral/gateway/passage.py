"""How a stream's events go from the instance to the client: by `EventStream` and `Outlet`, a single token in one function.

Between two tokens a model's weights have gone through the caches, and what runs then waits for memory: each function
on the way costs a microsecond where the same called in a loop takes a tenth. So the event loop calls this one at
once, and it writes to the client's file itself, past the transport's queue.
"""

import os
from collections import deque
from collections.abc import Callable

from corral.gateway.outlet import NO_FILE, Flow, Outlet
from corral.gateway.sse import END, ERROR_EVENTS, EventStream
from corral.runtime.connection import Shortcut

LINE_END = b"\r\n"
CHUNK_END = END + LINE_END
# How a chunk of each size begins; one that is as long as this is no token.
LONG = 2048
FRAMES = tuple(b"%x\r\n" % size for size in range(LONG))


class Passage(Shortcut):
    """One stream's, from its first events to its end."""

    # What a token touches lies together.
    __slots__ = (
        "_events", "_file", "_flow", "_new", "_note", "_noted", "_old", "_open", "_outlet", "_queue", "_waits",
        "sent",
    )  # fmt: skip

    def __init__(self, events: EventStream, outlet: Outlet) -> None:
        super().__init__()
        self._events, self._outlet = events, outlet
        self._old, self._new = events.rename
        # Whole chunks that the events have not been told of: the last ones, as many as they keep.
        self._noted: deque[bytes] = deque(maxlen=events.recent.maxlen)
        self._note: Callable[[bytes], None] = self._noted.append
        self._open = events.passes
        self._flow: Flow = outlet.flow
        self._queue, self._waits = outlet.transport.write, outlet.transport.get_write_buffer_size
        # The client's, while nothing waits in its transport: no token may overtake another.
        self._file = NO_FILE
        self.sent = 0

    def data_received(self, data: bytes) -> None:
        """Pass on one whole event that is a token, and leave all else."""
        start = data.find(LINE_END) + 2
        size = len(data) - start - 2
        if (
            not (self.between and self._open)
            or not 0 <= size < LONG
            or data[:start] != FRAMES[size]
            or data.find(END) != len(data) - 4
            or not data.endswith(CHUNK_END)
            or data.startswith(ERROR_EVENTS, start)
        ):
            self.leave(data)
            return
        self.taken += 1
        # A transport tells so before it closes its file, which may be another client's then.
        if self._outlet.gone:
            return
        self._note(data)
        frame = data.replace(self._old, self._new)
        if grown := len(frame) - len(data):
            size += grown
            frame = (FRAMES[size] if size < LONG else b"%x\r\n" % size) + frame[start:]
        self.sent += size
        file = self._file
        if file == NO_FILE and not self._waits():
            file = self._file = self._outlet.file
        if file != NO_FILE:
            try:
                put = os.write(file, frame)
            except OSError:
                put = 0  # it takes no more, or is broken: the transport knows what to do
            if put == len(frame):
                return
            frame, self._file = frame[put:], NO_FILE
        self._queue(frame)
        if self._flow.write_paused:
            self.connection.full()

    def piece(self, data: bytes) -> bool:
        """Pass on the events that end in the next bytes of the body. False: the client must read before the next."""
        self._tell()
        ready = self._events.feed(data)
        self._open = self._events.passes
        self._file = NO_FILE
        self.sent += len(ready)
        return self._outlet.write(ready)

    def end(self) -> None:
        """Have the events know what has gone past them."""
        self._tell()
        self._events.pieces += self.taken

    def _tell(self) -> None:
        for data in self._noted:
            self._events.recent.append(data[data.index(LINE_END) + 2 : -2])
        self._noted.clear()
