"""The benchmark's client reads answers rightly, and its figures are the ratios they are called."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.load import Request, offer
from bench.report import Row, latest, medians, plot, table

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [b"data: {}\n\n"] * 3 + [b"data: [DONE]\n\n"]


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@asynccontextmanager
async def server(answer: Callable[[int], list[bytes]]) -> AsyncIterator[str]:
    """Answers request N of a connection with these pieces, and ends it after an empty one."""

    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, task = 0, asyncio.current_task()
        assert task is not None
        tasks.append(task)
        while await reader.read(65536):
            for piece in answer(number):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            number += 1
            if not answer(number):
                break
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        finally:
            await asyncio.gather(*tasks)


async def ask(url: str, requests: int, connections: int = 1) -> list[tuple[int, int]]:
    request = Request("/chat/completions", b"{}", {})
    samples = await offer(url, request, connections, requests)
    assert all(0 < sample.first <= sample.total for sample in samples)
    return [(sample.status, sample.events) for sample in samples]


async def test_a_stream_ends_at_its_last_chunk_however_it_is_cut() -> None:
    raw = CHUNKED + chunked(EVENTS)
    pieces = [raw[start : start + 7] for start in range(0, len(raw), 7)]
    async with server(lambda _: pieces) as url:
        assert await ask(url, 2) == [(200, 4)] * 2


async def test_a_plain_answer_ends_at_its_length() -> None:
    answer = b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nover"
    async with server(lambda _: [answer[:-2], answer[-2:]]) as url:
        assert await ask(url, 4, connections=2) == [(500, 0)] * 4


async def test_a_connection_that_was_ended_between_requests_is_replaced() -> None:
    raw = CHUNKED + chunked(EVENTS)
    async with server(lambda number: [raw] if number < 2 else []) as url:
        assert await ask(url, 5) == [(200, 4)] * 5


async def test_an_answer_that_breaks_off_fails() -> None:
    async with server(lambda number: [CHUNKED + b"5\r\n"] if number == 0 else []) as url:
        with pytest.raises(ConnectionError):
            await ask(url, 1)


def row(
    target: str, scenario: str, cpu: float, ttft: float = 1, per_second: float = 1, round: int = 1
) -> Row:
    return Row("model", scenario, target, cpu, ttft, ttft, per_second, round)


def test_the_figures_are_medians_of_what_each_round_compares() -> None:
    # The machine was twice as slow in the second round, and the third is an accident.
    rows = [
        row("corral", "8 streams", cpu, per_second=90, round=number)
        for number, cpu in enumerate((3.0, 6.0, 100.0), 1)
    ]
    rows += [
        row("router", "8 streams", cpu, round=number)
        for number, cpu in ((3, 2.0), (1, 2.0), (2, 4.0))
    ]
    # One round of a peer is enough, and its own counterpart is taken.
    rows += [row("litellm", "8 streams", 120.0, round=2)]
    rows += [row("direct", "8 streams", 0, per_second=100)]
    rows += [row("corral", "1 streams", 2, ttft=3.5), row("direct", "1 streams", 0, ttft=3.0)]
    assert latest(rows) == {
        "stream_cpu_vs_router": 1.5,
        "stream_cpu_vs_litellm": 0.05,
        "tokens_vs_direct": 0.9,
        "ttft_added_ms": 0.5,
    }
    cells = medians(rows)
    assert "| model | 8 streams | corral | 6.00 |" in table(cells)
    assert plot(cells).count("<rect") == 1 + 4, "direct has no front and no bar"
