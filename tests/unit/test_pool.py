"""Connections are kept, opened ahead, and never used too late."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from corral.runtime import pool as pools
from corral.runtime.connection import Connection
from corral.runtime.pool import Pool

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Listener:
    """Answers whatever is written, on loopback; counts who has come."""

    def __init__(self) -> None:
        self.came = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.writers.append(writer)
        while await reader.read(1000):
            writer.write(ANSWER)
        writer.close()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    await made.start()
    yield made
    made.server.close()
    for writer in made.writers:
        writer.close()
    await made.server.wait_closed()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool()
    yield made
    made.close()


async def ask(connection: Connection) -> None:
    connection.ask(b"?", 5)
    assert await connection.body() == b"ok"
    connection.end()


async def until(listener: Listener, came: int) -> None:
    async with asyncio.timeout(5):
        while listener.came < came:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)


async def test_a_connection_serves_one_request_after_the_other(
    pool: Pool, listener: Listener
) -> None:
    for _ in range(3):
        await ask(await pool.take(listener.port))
    assert listener.came == 1


async def test_one_that_is_in_use_is_nobody_elses(pool: Pool, listener: Listener) -> None:
    first, second = await pool.take(listener.port), await pool.take(listener.port)
    assert first is not second
    await ask(first)
    await ask(second)


async def test_a_spare_one_is_there_before_it_is_asked_for(pool: Pool, listener: Listener) -> None:
    pool.spare(listener.port)
    pool.spare(listener.port)
    await until(listener, 1)
    pool.spare(listener.port)
    await ask(await pool.take(listener.port))
    assert listener.came == 1


async def test_one_that_was_idle_for_long_is_not_used(
    pool: Pool, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(await pool.take(listener.port))
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0)
    await ask(await pool.take(listener.port))
    assert listener.came == 2


async def test_one_that_the_other_side_has_closed_is_not_used(
    pool: Pool, listener: Listener
) -> None:
    await ask(await pool.take(listener.port))
    listener.writers[0].close()
    await listener.writers[0].wait_closed()
    await asyncio.sleep(0.01)
    await ask(await pool.take(listener.port))
    assert listener.came == 2


async def test_nobody_listening_is_an_error_at_once_and_a_spare_one_is_none(pool: Pool) -> None:
    with pytest.raises(ConnectionRefusedError):
        await pool.take(1)
    pool.spare(1)
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await pool.take(1)
