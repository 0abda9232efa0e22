"""One connection to an instance of llama-server, read as it comes (docs/adr/0009-own-reader-to-the-instance.md).

httptools parses, as it does for uvicorn on the other side. What has come is given to whoever reads, or, for
a stream, poured into a function at once: no task wakes up for a token. Whoever pours may put a shortcut in front, which
sees it before the parser does. One event loop's.
"""

import asyncio
from collections.abc import Callable

import httptools

# So much may wait unread; then nothing more is taken from the instance.
UNREAD_MOST = 256 * 1024
# A silence is noticed after the time given and at most one part in so many more.
LOOKS = 8

# Takes what has come; False: no more for now, `pour` returns.
Sink = Callable[[bytes], bool]


class BrokenOff(ConnectionError):
    """The connection ended before the answer did, or what came is no HTTP."""


class Shortcut(asyncio.Protocol):
    """Stands between the event loop and a connection while that pours. A subclass takes what it knows itself, where it
    is `between` two chunks of the body a whole one with its frame and nothing else, and leaves the rest."""

    __slots__ = ("between", "connection", "taken")

    def __init__(self) -> None:
        self.between = False
        # How often it has taken something.
        self.taken = 0
        self.connection: Connection

    def leave(self, data: bytes) -> None:
        """Give what has come to the connection."""
        self.connection.data_received(data)

    def eof_received(self) -> None:
        """The connection's affair."""
        self.connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection's affair."""
        self.connection.connection_lost(exc)


class Connection(asyncio.Protocol):
    """Carries one request after the other: `ask`, `head`, then `body`, `read` or `pour`, then `end`."""

    def __init__(self, on_end: Callable[["Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._asked = self._last = self._keeps_alive = False
        self.idle_since = self._loop.time()
        self._reset()

    def _reset(self) -> None:
        self._pieces: list[bytes] = []
        self._whole: bytes | None = None
        self._sink: Sink | None = None
        self._shortcut: Shortcut | None = None
        # Whether the parser has seen the end of a chunk, and nothing after it.
        self._between = False
        self._fault: Exception | None = None
        self._begun = self._framed = self._paused = False
        self._received = 0
        self.complete = False
        self.status = 0
        self.content_type = b""

    # ---- for whoever asks

    @property
    def usable(self) -> bool:
        """Whether another request may be sent over it, as far as is known."""
        return not (self._closed or self._asked)

    def ask(self, request: bytes, patience: float, *, last: bool = False) -> None:
        """Send a request, the last one over this connection or not. When `patience` seconds go by without a
        byte, reading raises TimeoutError; time in which nothing is read does not count."""
        assert self._transport is not None
        self._reset()
        self._asked, self._last = True, last
        self._seen, self._since, self._patience = 0, self._loop.time(), patience
        if self._timer is None:
            self._timer = self._loop.call_later(patience, self._look)
        self._transport.write(request)

    async def head(self) -> None:
        """Wait for `status` and `content_type`; of the last answer, where it goes well, also for what follows them:
        llama-server sends a stream's head a millisecond before its first event, and nobody needs it alone. Raises
        BrokenOff, TimeoutError, as all reading does."""
        while not (self._begun and self._is_due):
            await self._more()

    async def read(self) -> bytes:
        """What has come since the last call; empty at the end."""
        while not self._pieces and not self.complete:
            await self._more()
        data, self._pieces = b"".join(self._pieces), []
        self._resume()
        return data

    async def body(self) -> bytes:
        """All of the answer; again, when asked again."""
        if self._whole is None:
            parts = []
            while part := await self.read():
                parts.append(part)
            self._whole = b"".join(parts)
        return self._whole

    async def pour(self, sink: Sink, shortcut: Shortcut | None = None) -> bool:
        """Give what has come and what comes to `sink`, as it comes, until the end (True) or until the sink
        takes no more (False). What it raises is raised here. What comes from now on is the shortcut's first."""
        self._resume()
        self._sink = sink
        self._through(shortcut)
        try:
            if self._pieces:
                self._pour()
            while not (self._paused or self.complete):
                await self._more()
        finally:
            self._sink = None
            self._through(None)
        if self._fault is not None:
            raise self._fault
        return self.complete

    def full(self) -> None:
        """Whoever pours can take no more for now."""
        self._pause()
        self._wake()

    def end(self) -> None:
        """Done with it, answered or not: llama-server gives up what it has not answered to the end."""
        kept = self.complete and not (self._closed or self._last) and self._keeps_alive
        self._asked = False
        self.idle_since = self._loop.time()
        if kept:
            self._resume()
            self._on_end(self)
        else:
            self.close()

    def close(self) -> None:
        """Drop it, whatever is under way."""
        self._closed = True
        self._end_timer()
        if self._transport is not None:
            self._transport.abort()

    # ---- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        # uvloop's is one too, but no subclass.
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse it and pass on what it brings."""
        if not self._asked:
            self.close()  # nobody has asked for anything
            return
        self._received += len(data)
        broken = None
        try:
            self._parser.feed_data(data)
        # The second is none of the first.
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            broken = BrokenOff(f"llama-server's answer is no HTTP: {error}")
        # A part of the next chunk's first line may have come that the parser does not tell of yet.
        self._between = self._between and data.endswith(b"\r\n")
        if self._shortcut is not None:
            self._shortcut.between = self._between
        # Also where it is broken: what came before that counts.
        self._pass_on()
        if broken is not None:
            self._lost(broken)

    def eof_received(self) -> None:
        """Nothing more will come: the end of an answer that has said no length."""
        if self._asked and self._begun and not (self._framed or self.complete):
            self._complete()
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone. What had come may still be read."""
        self._lost(BrokenOff(str(exc or "llama-server closed the connection")))

    # ---- for the parser

    def on_message_begin(self) -> None:
        """A second answer to one request would be taken for a part of the first, or for the next one's."""
        if self.complete:
            raise BrokenOff("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what anybody asks for."""
        name = name.lower()
        if name == b"content-type":
            self.content_type = value
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """The answer has begun, or a note ahead of it (100 Continue) that nobody needs."""
        self.status = self._parser.get_status_code()
        self._begun = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """A piece of it."""
        self._pieces.append(data)

    def on_chunk_header(self) -> None:
        """A chunk has begun."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """Its last byte has come."""
        self._between = True

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._begun:
            self._complete()
            self._keeps_alive = self._parser.should_keep_alive()

    # ---- inside

    @property
    def _is_due(self) -> bool:
        return not self._last or self.status != 200 or bool(self._pieces) or self.complete

    def _through(self, shortcut: Shortcut | None) -> None:
        old, self._shortcut = self._shortcut, shortcut
        if shortcut is not None:
            shortcut.connection, shortcut.between = self, self._between
        # A transport that closes lets go of its protocol, and must not get another one to hold.
        if old is not shortcut and self._transport is not None and not self._transport.is_closing():
            self._transport.set_protocol(shortcut or self)

    def _complete(self) -> None:
        self.complete = True
        self._between = self._keeps_alive = False

    def _lost(self, fault: BrokenOff) -> None:
        """Nothing more comes, which is no fault after all of the answer."""
        if self.complete:
            self.close()
        else:
            self._fail(fault)

    def _pass_on(self) -> None:
        if self._sink is None:
            self._pause_when_full()
            if self._is_due:
                self._wake()
            return
        if self._pieces:
            self._pour()
        if self.complete:
            self._wake()

    def _pour(self) -> None:
        assert self._sink is not None
        pieces, self._pieces = self._pieces, []
        try:
            wants_more = self._sink(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        # The edge of somebody else's code: the event loop would log it and leave the reader waiting.
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return
        if not wants_more and not self.complete:
            self.full()

    def _pause_when_full(self) -> None:
        if self._received > UNREAD_MOST and sum(map(len, self._pieces)) > UNREAD_MOST:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._closed:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._transport is not None and not self._closed:
                self._transport.resume_reading()

    async def _more(self) -> None:
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, fault: Exception) -> None:
        if self._fault is None:
            self._fault = fault
        self.close()
        self._wake()

    def _look(self) -> None:
        # One clock for all requests over the connection: it is there from an earlier one, or ends here.
        if self.complete or not self._asked:
            self._timer = None
            return
        now = self._loop.time()
        seen = self._received + (self._shortcut.taken if self._shortcut is not None else 0)
        if self._paused or seen != self._seen:
            self._seen, self._since = seen, now
        elif now - self._since >= self._patience:
            self._fail(TimeoutError(f"no byte came for {self._patience:g} s"))
            return
        wait = min(self._patience / LOOKS, self._since + self._patience - now)
        self._timer = self._loop.call_later(wait, self._look)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
