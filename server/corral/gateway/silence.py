"""Notice that an upstream has gone silent in the middle of a stream, for next to nothing per chunk."""

import asyncio

import aiohttp

# A silence is noticed after `seconds` and at most one part in so many more.
LOOKS = 8


class Silence:
    """Breaks off the read of `content` with a TimeoutError after `seconds` without a byte.

    Looks now and then whether bytes have come. aiohttp's own timeout sets a timer for every chunk, which
    took 7% of the gateway's time on streams. `listening` is to be False while nothing is read: a
    client that does not take its answer is no silence of the upstream's.
    """

    def __init__(self, content: aiohttp.StreamReader, seconds: float) -> None:
        self._content = content
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._seen = content.total_bytes
        self._since = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)
        self.listening = True

    def end(self) -> None:
        """The stream has ended."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if not self.listening or self._content.total_bytes != self._seen:
            self._seen, self._since = self._content.total_bytes, now
        elif now - self._since >= self._seconds:
            self._content.set_exception(aiohttp.SocketTimeoutError("no byte came"))
            return
        wait = min(self._seconds / LOOKS, self._since + self._seconds - now)
        self._timer = self._loop.call_later(wait, self._look)
