"""uvicorn's HTTP protocol with a limit on how long a client may take over its headers."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from corral.errors import BadRequest
from corral.gateway.context import new_request_id


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
        """Forget the timer with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._headers_due = self.loop.call_later(self.header_timeout, self.transport.close)

    def _disarm(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None
