"""Looking for what there is: whoever asks gets a look that began after the question, and all share it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corral.errors import NotReady, ToolError
from corral.registry.catalog import Catalog, Model
from corral.runtime.board import Board, Serving
from corral.runtime.lookout import GAP_SECONDS, Lookout
from corral.runtime.presets import lay_out
from corral.runtime.publisher import Publisher
from corral.settings import Settings

NOTHING = Catalog({})
TINY = Catalog({"tiny": Model("tiny", "base", Path("/m/tiny.gguf"), "test")})


class Shelf:
    """What a look finds; `slow` holds it back."""

    def __init__(self) -> None:
        self.there: Catalog | Exception = NOTHING
        self.looks = 0
        self.slow = threading.Event()
        self.slow.set()

    def poll(self) -> Catalog | None:
        self.looks += 1
        there = self.there
        assert self.slow.wait(10)
        if isinstance(there, Exception):
            raise there
        return there


@asynccontextmanager
async def looking(poll: Callable[[], Catalog | None]) -> AsyncIterator[Lookout]:
    lookout = Lookout(NOTHING, poll)
    task = asyncio.create_task(lookout.run())
    await asyncio.sleep(0.05)
    try:
        yield lookout
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_there_before_the_question_is_found() -> None:
    shelf = Shelf()
    async with looking(shelf.poll) as lookout:
        shelf.there = TINY
        began = time.monotonic()
        await lookout.look()
        assert time.monotonic() - began < 0.5, "a second is how long it looks by itself"
        assert lookout.latest is TINY
        assert lookout.changed.is_set()


async def test_a_question_during_a_look_gets_the_next_one() -> None:
    shelf = Shelf()
    async with looking(shelf.poll) as lookout:
        shelf.slow.clear()
        early = asyncio.create_task(lookout.look())
        while shelf.looks == 1:
            await asyncio.sleep(0.01)
        shelf.there = TINY
        late = asyncio.create_task(lookout.look())
        await asyncio.sleep(0.05)
        shelf.slow.set()
        await early
        assert lookout.latest is NOTHING
        await late
        assert lookout.latest is TINY


async def test_many_questions_share_a_look_and_come_no_faster_than_the_gap() -> None:
    shelf = Shelf()
    async with looking(shelf.poll) as lookout:
        end = time.monotonic() + 10 * GAP_SECONDS

        async def storm() -> int:
            asked = 0
            while time.monotonic() < end:
                await lookout.look()
                asked += 1
            return asked

        asked = await asyncio.gather(*(storm() for _ in range(50)))
        assert sum(asked) >= 50
        assert shelf.looks <= 13


async def test_who_gives_up_loses_no_change_for_the_others() -> None:
    shelf = Shelf()
    async with looking(shelf.poll) as lookout:
        shelf.slow.clear()
        shelf.there = TINY
        impatient = asyncio.create_task(lookout.look())
        while shelf.looks == 1:
            await asyncio.sleep(0.01)
        impatient.cancel()
        patient = asyncio.create_task(lookout.look())
        await asyncio.sleep(0.05)
        shelf.slow.set()
        await patient
        assert lookout.latest is TINY


@pytest.mark.parametrize("error", [ToolError("the folder is gone"), RuntimeError("oops")])
async def test_a_look_that_fails_is_no_change_and_the_next_one_comes(error: Exception) -> None:
    shelf = Shelf()
    async with looking(shelf.poll) as lookout:
        shelf.there = error
        await lookout.look()
        assert lookout.latest is NOTHING
        shelf.there = TINY
        await lookout.look()
        assert lookout.latest is TINY


async def test_nobody_waits_for_one_who_does_not_look() -> None:
    shelf = Shelf()
    lookout = Lookout(NOTHING, shelf.poll)
    await asyncio.wait_for(lookout.look(), 1)
    async with looking(shelf.poll) as lookout:
        shelf.slow.clear()
        waiting = asyncio.create_task(lookout.look())
        await asyncio.sleep(0.05)
    shelf.slow.set()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(lookout.look(), 1)


def publisher(lookout: Lookout) -> Publisher:
    """One that takes no turn: what there is stays unpublished."""
    settings = Settings.model_validate({"load_timeout": 0.2})
    board = Board(Serving(settings, NOTHING, lay_out(NOTHING, settings)))
    return Publisher(settings, board, None, None, None, lookout)  # type: ignore[arg-type]


async def test_what_is_there_is_waited_for_and_told_when_that_takes_too_long() -> None:
    lookout = Lookout(NOTHING, lambda: None)
    waits = publisher(lookout)
    lookout.latest = TINY
    with pytest.raises(NotReady, match="`openai/tiny` is not loaded yet"):
        await waits.catch_up("openai/tiny")
    await asyncio.wait_for(waits.catch_up("other"), 0.1)


async def test_what_the_caller_may_not_see_is_not_waited_for() -> None:
    lookout = Lookout(NOTHING, lambda: None)
    waits = publisher(lookout)
    lookout.latest = TINY
    await asyncio.wait_for(waits.catch_up("tiny", lambda catalog: NOTHING), 0.1)
