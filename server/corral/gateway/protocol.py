"""uvicorn's HTTP protocol with a limit on how long a client may take over its headers."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """Closes a connection whose first request line and headers do not arrive in time.

    uvicorn times idle connections between requests, not a client that sends headers by drops.
    """

    header_timeout: float = 10.0

    @classmethod
    def with_timeout(cls, seconds: float) -> type["HeaderTimeoutProtocol"]:
        """The protocol class for a server with this limit."""
        return type("Protocol", (cls,), {"header_timeout": seconds})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._headers_due: asyncio.TimerHandle | None = None
        self._arm()

    def on_message_begin(self) -> None:
        """A request line has begun to arrive."""
        super().on_message_begin()
        if self._headers_due is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """The headers are there: the body has limits of its own."""
        self._disarm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._headers_due = self.loop.call_later(self.header_timeout, self.transport.close)

    def _disarm(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None
