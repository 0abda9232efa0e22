"""A stream that goes by chunks is to the client, and to the figures, what it is without."""

import asyncio
import itertools
import json
from typing import Any

import pytest
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
    """What the outlet knows of the client, and what has been written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.write_paused = self.disconnected = self.response_complete = self.more_body = False
        self.transport: Any = None

    def write(self, data: bytes) -> None:
        self.written += data

    def resume_reading(self) -> None:
        pass

    async def drain(self) -> None:
        self.write_paused = False

    def body(self) -> bytes:
        """What was written, without the frames."""
        parts, rest = [], self.written
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            end = int(size, 16)
            assert rest[end : end + 2] == b"\r\n"
            parts.append(rest[:end])
            rest = rest[end + 2 :]
        return b"".join(parts)


class Run:
    """One stream, read as it came in `reads`, with chunks or without."""

    def __init__(self, reads: list[bytes], *, by_chunks: bool) -> None:
        self.client, self.by_chunks = Client(), by_chunks
        self.events = EventStream("openai", renaming("tiny@1", "a name of mine"))
        self.sent = 0
        self.short = 0
        asyncio.run(self._run(reads))

    async def _run(self, reads: list[bytes]) -> None:
        connection, _ = asked(last=True)
        connection.data_received(CHUNKED + framed(FIRST))
        self.events.feed(await connection.read())
        outlet = Outlet(self.client.write, self.client, self.client)
        passage = Passage(self.events, outlet)

        def chunk(data: bytes) -> bool | None:
            taken = passage.chunk(data)
            self.short += taken is not None
            return taken

        pouring = asyncio.create_task(
            connection.pour(passage.piece, chunk if self.by_chunks else None)
        )
        await asyncio.sleep(0)
        for read in reads:
            connection.data_received(read)
        assert await pouring
        passage.end()
        self.sent = passage.sent
        connection.close()

    def outcome(self) -> tuple[Any, ...]:
        figures = self.events.figures()
        return self.client.body(), self.sent, self.events.error, self.events.complete, figures


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
    assert run.short == 22
    assert run.client.body().count(b'"model":"a name of mine"') == 21
    figures = run.events.figures()
    assert figures is not None
    assert (figures.prompt, figures.generated, figures.complete) == (3, 7, True)


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
    client = Client()
    events = EventStream("openai", renaming("tiny@1", "mine"))
    events.feed(FIRST)
    passage = Passage(events, Outlet(client.write, client, client))
    assert passage.chunk(data) is None
    assert (client.written, passage.sent) == (b"", 0)


def test_a_client_that_is_full_or_gone() -> None:
    client = Client()
    events = EventStream("openai", renaming("tiny@1", "mine"))
    events.feed(FIRST)
    outlet = Outlet(client.write, client, client)
    passage = Passage(events, outlet)
    client.write_paused = True
    assert passage.chunk(framed(token("a"))) is False
    outlet.lost()
    written = client.written
    assert passage.chunk(framed(token("b"))) is True
    assert client.written == written
