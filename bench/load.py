"""A closed-loop HTTP client that costs little itself: it shares its cores with what it measures.

`offer` keeps N connections busy until so many requests are answered. Each connection is kept alive,
as the SDKs keep theirs, and sends its next request when the last answer is complete.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

END_OF_CHUNKS = b"0\r\n\r\n"
END_OF_HEADERS = b"\r\n\r\n"
EVENT = b"data: "


@dataclass(frozen=True)
class Request:
    """One request, the same every time. `path` follows the target's base URL."""

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """One answer: seconds to its first body byte and to its last, its status and events."""

    first: float
    total: float
    status: int
    events: int


class Unanswered(ConnectionError):
    """Cut before the first byte: llama-server ends its connection after a stream, unannounced."""


class _Exchange(asyncio.Protocol):
    """One connection; `ask` sends a request and waits for the whole answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Sample] | None = None
        self.closes = False
        self._reset()

    def _reset(self) -> None:
        self._head = b""
        self._tail = b""
        self._left: int | None = None
        self._status = 0
        self._events = 0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one too, but no subclass.
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, raw: bytes) -> Sample:
        assert self._transport is not None
        self._reset()
        self._done = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(raw)
        return await self._done

    def data_received(self, data: bytes) -> None:
        if self._status == 0:
            self._head += data
            head, found, data = self._head.partition(END_OF_HEADERS)
            if not found:
                return
            self._status = int(head[9:12])
            lowered = head.lower()
            # llama-server ends a connection after 100 requests, and says so in the last answer.
            self.closes = b"connection: close" in lowered
            if b"content-length:" in lowered:
                length = lowered.partition(b"content-length:")[2].partition(b"\r\n")[0]
                self._left = int(length)
        if data:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter() - self._began
        # An event that is cut between two reads is missed or not: the tail keeps the beginning.
        self._events += (self._tail[-5:] + data).count(EVENT)
        self._tail = (self._tail + data)[-8:]
        if self._left is not None:
            self._left -= len(data)
        if self._left == 0 or (self._left is None and self._tail.endswith(END_OF_CHUNKS)):
            total = time.perf_counter() - self._began
            self._finish(Sample(self._first, total, self._status, self._events))

    def _finish(self, sample: Sample) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(sample)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            kind = ConnectionError if self._status else Unanswered
            self._done.set_exception(kind(f"the connection was cut: {exc}"))
        self.closes = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def encode(url: str, request: Request) -> bytes:
    """The request as it goes over the wire to `url`."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path}{request.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    return "\r\n".join(lines).encode() + END_OF_HEADERS + request.body


async def offer(url: str, request: Request, connections: int, requests: int) -> list[Sample]:
    """Ask `requests` times over `connections` at once; every answer, or the first failure."""
    raw, parts = encode(url, request), urlsplit(url)
    left = iter(range(requests))
    loop = asyncio.get_running_loop()

    async def connect() -> _Exchange:
        _, exchange = await loop.create_connection(
            _Exchange, parts.hostname or "127.0.0.1", parts.port or 80
        )
        return exchange

    async def worker() -> list[Sample]:
        exchange, samples = await connect(), []
        try:
            for _ in left:
                if exchange.closes:
                    exchange.close()
                    exchange = await connect()
                try:
                    samples.append(await exchange.ask(raw))
                except Unanswered:
                    exchange = await connect()
                    samples.append(await exchange.ask(raw))
        finally:
            exchange.close()
        return samples

    answers = await asyncio.gather(*(worker() for _ in range(connections)))
    return [sample for samples in answers for sample in samples]
