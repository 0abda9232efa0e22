"""What a task does ends when its client goes or Corral stops, and in no other case."""

import asyncio

import pytest

from corral.errors import CorralError
from corral.gateway.cut import Cut, Stopping
from corral.gateway.outlet import Outlet
from tests.unit.test_outlet import outlet


async def stay(way: Outlet, stopping: Stopping, begun: asyncio.Event) -> str:
    with Cut(way, stopping) as cut:
        begun.set()
        await asyncio.Event().wait()
    return cut.why


async def begin() -> tuple[Outlet, Stopping, asyncio.Task[str]]:
    way, stopping, begun = outlet([]), Stopping(), asyncio.Event()
    task = asyncio.create_task(stay(way, stopping, begun))
    await begun.wait()
    return way, stopping, task


async def test_a_client_that_goes_ends_the_block_and_nothing_else() -> None:
    way, stopping, task = await begin()
    way.lost()
    stopping.set()
    assert await task == "client_gone"
    assert task.cancelling() == 0


async def test_stopping_ends_every_block() -> None:
    way, stopping, task = await begin()
    begun = asyncio.Event()
    other = asyncio.create_task(stay(outlet([]), stopping, begun))
    await begun.wait()
    stopping.set()
    way.lost()
    assert [await task, await other] == ["stopped", "stopped"]
    assert stopping.is_set()
    assert not stopping.told


async def test_a_cancelled_task_stays_cancelled() -> None:
    _, stopping, task = await begin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stopping.told


async def test_a_task_that_was_cancelled_besides_stays_cancelled() -> None:
    way, _, task = await begin()
    way.lost()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_block_makes_of_its_end_is_of_no_interest() -> None:
    way = outlet([])
    with Cut(way, Stopping()) as cut:
        try:
            way.lost()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise CorralError("broken off") from None
    assert cut.why == "client_gone"


async def test_an_error_of_the_block_is_not_swallowed() -> None:
    way, stopping = outlet([]), Stopping()
    with pytest.raises(CorralError), Cut(way, stopping):
        raise CorralError("a queue that is full")
    way.lost()  # after the end nobody wants to know
    stopping.set()
    await asyncio.sleep(0)
