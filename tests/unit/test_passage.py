"""A stream that goes by chunks is to the client, and to the figures, what it is without."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st

from corral.gateway.outlet import Outlet
from corral.gateway.passage import Passage
from corral.gateway.sse import EventStream, renaming
from tests.unit.test_connection import CHUNKED, asked
from tests.unit.test_connection import END as NO_MORE
from tests.unit.test_connection import chunk as framed

FIRST = b'data: {"choices":[{"delta":{"role":"assistant"}}],"model":"tiny@1"}\n\n'
USAGE = (
    b'data: {"choices":[],"model":"tiny@1","usage":{"completion_tokens":7,"prompt_tokens":3}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"code":500,"message":"broken","type":"server_error"}}\n\n'
PING = b":\n\n"


def token(text: str) -> bytes:
    body = json.dumps({"choices": [{"delta": {"content": text}}], "model": "tiny@1"})
    return f"data: {body}\n\n".encode().replace(b": ", b":").replace(b"data:", b"data: ", 1)


class Client:
    """What a stream knows of the client, and what has come to it: a transport that writes when it is told to `flush`,
    as the event loop does, to one end of a pair of sockets."""

    def __init__(self) -> None:
        self.write_paused = self.disconnected = self.response_complete = self.more_body = False
        self.transport: Any = self
        self.queue = b""
        self.queued = 0
        self.ours, self.theirs = socket.socketpair()
        for end in (self.ours, self.theirs):
            end.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.theirs.close()

    def get_extra_info(self, name: str) -> Any:
        return self.ours if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return len(self.queue)

    def write(self, data: bytes) -> None:
        self.queue += data
        self.queued += 1

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.queue = self.queue[self.ours.send(self.queue) :] if self.queue else b""

    def resume_reading(self) -> None:
        pass

    async def drain(self) -> None:
        self.write_paused = False

    def read(self) -> bytes:
        """All that has come since the last time."""
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := self.theirs.recv(1 << 20):
                parts.append(part)
        return b"".join(parts)

    def body(self) -> bytes:
        """What was sent since the last time, without the frames."""
        self.flush()
        return unframed(self.read())


def unframed(rest: bytes) -> bytes:
    """A chunked body without its frames."""
    parts, at = [], 0
    while at < len(rest):
        start = rest.index(b"\r\n", at) + 2
        end = start + int(rest[at : start - 2], 16)
        assert rest[end : end + 2] == b"\r\n"
        parts.append(rest[start:end])
        at = end + 2
    return b"".join(parts)


class Run:
    """One stream, read as it came in `reads`, with chunks or without."""

    def __init__(self, reads: list[bytes], *, by_chunks: bool) -> None:
        self.by_chunks = by_chunks
        self.events = EventStream("openai", renaming("tiny@1", "a name of mine"))
        with Client() as self.client:
            asyncio.run(self._run(reads))
            self.body = self.client.body()

    async def _run(self, reads: list[bytes]) -> None:
        connection, wire = asked(last=True)
        wire.receive(CHUNKED + framed(FIRST))
        self.events.feed(await connection.read())
        self.passage = Passage(self.events, outlet(self.client))
        pouring = asyncio.create_task(
            connection.pour(self.passage.piece, self.passage if self.by_chunks else None)
        )
        await asyncio.sleep(0)
        for read in reads:
            wire.receive(read)
            self.client.flush()
        assert await pouring
        self.passage.end()
        connection.close()

    def outcome(self) -> tuple[Any, ...]:
        figures = self.events.figures()
        return self.body, self.passage.sent, self.events.error, self.events.complete, figures


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces that end at these places."""
    places = sorted({min(place, len(data)) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


BODIES = st.lists(
    st.one_of(
        st.text(max_size=12).map(token),
        st.sampled_from(
            [PING, USAGE, ERROR, token("a") + token("b"), b'data: {"half', b'":1}\n\n']
        ),
    ),
    max_size=12,
)


@given(BODIES, st.sampled_from([DONE, ERROR, b""]), st.lists(st.integers(0, 3000), max_size=6))
@example([b'data: {"half', token("x"), b'":1}\n\n'], DONE, [])
@example([token("\r\n\r\n1a\r\n"), USAGE], DONE, [1, 2, 3])
def test_by_chunks_or_not_it_is_the_same(bodies: list[bytes], last: bytes, at: list[int]) -> None:
    chunks = [framed(body) for body in [*bodies, *([last] if last else [])]]
    for reads in (
        [*chunks, NO_MORE],
        cut(b"".join(chunks) + NO_MORE, at),
    ):
        by, without = Run(reads, by_chunks=True), Run(reads, by_chunks=False)
        assert by.outcome() == without.outcome()


def test_tokens_go_the_short_way() -> None:
    reads = [framed(token(str(n))) for n in range(20)] + [framed(USAGE), framed(DONE), NO_MORE]
    run = Run(reads, by_chunks=True)
    assert run.passage.taken == 22
    assert run.client.queued == 0
    assert run.body.count(b'"model":"a name of mine"') == 21
    figures = run.events.figures()
    assert figures is not None
    assert (figures.prompt, figures.generated, figures.complete) == (3, 7, True)


def outlet(client: Client) -> Outlet:
    return Outlet(cast(asyncio.Transport, client), client, client)


class Left(Passage):
    """One between two chunks, with what it leaves."""

    def __init__(self, client: Client) -> None:
        events = EventStream("openai", renaming("tiny@1", "mine"))
        events.feed(FIRST)
        self.way = outlet(client)
        super().__init__(events, self.way)
        self.between = True
        self.left: list[bytes] = []
        self.connection = cast(Any, SimpleNamespace(full=lambda: self.left.append(b"full")))

    def leave(self, data: bytes) -> None:
        self.left.append(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        framed(token("a"))[:-1],
        framed(token("a")) + b"5",
        framed(token("a")) + framed(token("b")),
        framed(token("a") + token("b")),
        framed(ERROR),
        framed(b"data: half"),
        b"zz\r\n" + token("a") + b"\r\n",
        b"3\r\n" + token("a") + b"\r\n",
        NO_MORE,
    ],
)
def test_all_else_is_left_alone(data: bytes) -> None:
    with Client() as client:
        passage = Left(client)
        passage.data_received(data)
        assert passage.left == [data]
        assert (client.body(), passage.sent, passage.taken) == (b"", 0, 0)


def test_no_token_overtakes_what_waits_in_the_transport() -> None:
    with Client() as client:
        passage = Left(client)
        client.write(b"first ")
        passage.data_received(framed(token("a")))
        assert client.read() == b""
        client.flush()
        passage.data_received(framed(token("b")))
        assert client.queue == b""
        passage.piece(token("c"))
        passage.data_received(framed(token("d")))
        client.flush()
        came = client.read()
    assert came.startswith(b"first ")
    tokens = b"".join(map(token, "abcd"))
    assert unframed(came.removeprefix(b"first ")) == tokens.replace(b"tiny@1", b"mine")


def test_what_a_client_does_not_take_at_once_waits_in_the_transport() -> None:
    tokens = [token(str(n)) for n in range(20_000)]
    with Client() as client:
        passage = Left(client)
        came = b""
        for index, data in enumerate(tokens):
            passage.data_received(framed(data))
            if index == 15_000:
                assert client.queued > 0
            if index >= 15_000:
                came += client.read()
                client.flush()
        while part := client.read():
            came += part
            client.flush()
        queued = client.queued
    assert not passage.left
    assert unframed(came) == b"".join(tokens).replace(b"tiny@1", b"mine")
    # Once everything had been taken, the tokens went past it again.
    assert 0 < queued < 15_000


def test_a_client_that_is_full_or_gone() -> None:
    with Client() as client:
        passage = Left(client)
        client.write(b"x")
        client.write_paused = True
        passage.data_received(framed(token("a")))
        assert passage.left == [b"full"]
        passage.way.lost()
        client.flush()
        client.read()
        passage.data_received(framed(token("b")))
        assert client.body() == b""
        assert (passage.left, passage.taken) == ([b"full"], 2)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_a_file_is_open_as_long_as_its_client_is_not_said_to_be_gone(run: Any) -> None:
    """On it rests that a token is never written to a file whose number has become another client's."""
    seen = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.file = transport.get_extra_info("socket").fileno()
            transport.abort()
            seen.append(("aborted", os.fstat(self.file).st_ino))

        def connection_lost(self, exc: Exception | None) -> None:
            seen.append(("lost", os.fstat(self.file).st_ino))

    async def lose() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Server, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()

    run(lose())
    assert [what for what, _ in seen] == ["aborted", "lost"]
    assert seen[0][1] == seen[1][1]
