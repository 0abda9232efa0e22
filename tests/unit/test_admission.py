"""Who waits, who goes first, and that nobody is forgotten: no clock, no server."""

import asyncio
import random
from collections import Counter

import pytest

from corral.errors import RateLimited
from corral.gateway.admission import TURN_SECONDS, Admission, Line, Seat

SLOTS = 4


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def seat(model: str = "a", key: str = "", slots: int = SLOTS) -> Seat:
    return Seat("tiny@1", slots, model, key)


def line(size: int = 100) -> tuple[Line, Clock]:
    clock = Clock()
    return Line(size, clock), clock


def test_as_many_run_as_there_are_slots() -> None:
    queue, _ = line()
    assert [queue.join(seat()) for _ in range(SLOTS)] == [None] * SLOTS


async def test_the_next_goes_when_one_leaves() -> None:
    queue, _ = line()
    for _ in range(SLOTS):
        queue.join(seat())
    first, second = queue.join(seat()), queue.join(seat())
    assert first is not None
    assert second is not None
    queue.leave(1)
    assert (first.done(), second.done()) == (True, False)


async def test_another_adapter_waits_until_the_slots_are_empty() -> None:
    """llama-server would hold it back inside, in one of the slots."""
    queue, clock = line()
    queue.join(seat("a"))
    queue.join(seat("a"))
    other = queue.join(seat("b"))
    assert other is not None
    queue.leave(1)
    assert not other.done()
    queue.leave(1)
    assert other.done()
    assert clock.now == 100.0


async def test_a_turn_is_of_bounded_length_while_others_wait() -> None:
    queue, clock = line()
    for _ in range(SLOTS):
        queue.join(seat("a"))
    other = queue.join(seat("b"))
    again = [queue.join(seat("a")) for _ in range(3)]
    queue.leave(1)
    assert again[0] is not None
    assert again[0].done(), "within its turn an adapter lets more in"
    clock.now += TURN_SECONDS
    for _ in range(SLOTS - 1):
        queue.leave(1)
    assert again[1] is not None
    assert other is not None
    assert not again[1].done(), "the turn is over: the slots run empty"
    assert not other.done()
    queue.leave(1)
    assert other.done()
    assert not again[1].done()
    queue.leave(1)
    assert again[1].done(), "and then it is the first adapter's turn again"


async def test_keys_take_turns() -> None:
    queue, _ = line()
    for _ in range(SLOTS):
        queue.join(seat())
    told = [(key, queue.join(seat(key=key))) for key in ["greedy"] * 6 + ["modest"] * 2]
    order = []
    for _ in range(4):
        queue.leave(1)
        order += [key for key, future in told if future is not None and future.done()]
        told = [(key, future) for key, future in told if future is not None and not future.done()]
    assert order == ["greedy", "modest", "greedy", "modest"]


async def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    queue, _ = line(size=2)
    for _ in range(SLOTS + 2):
        queue.join(seat())
    with pytest.raises(RateLimited, match="2 requests wait") as raised:
        queue.join(seat())
    assert raised.value.code == "queue_full"
    assert int(raised.value.headers["Retry-After"]) >= 1
    assert raised.value.headers["x-ratelimit-limit-requests"] == str(SLOTS + 2)
    assert raised.value.headers["x-ratelimit-remaining-requests"] == "0"


async def test_one_that_goes_away_while_it_waits_leaves_no_trace() -> None:
    admission = Admission(10)
    async with admission.seat(seat(slots=1)):
        waiting = asyncio.create_task(enter(admission, seat(slots=1)))
        last = asyncio.create_task(enter(admission, seat("b", slots=1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert not last.done()
    assert await last == "b"
    assert admission._lines == {}


async def test_one_that_goes_away_as_it_is_let_in_passes_its_slot_on() -> None:
    admission = Admission(10)
    async with admission.seat(seat(slots=1)):
        waiting = asyncio.create_task(enter(admission, seat(slots=1)))
        last = asyncio.create_task(enter(admission, seat(slots=1)))
        await asyncio.sleep(0)
    waiting.cancel()  # its future is done, the task has not run yet
    assert await last == "a"
    assert admission._lines == {}


async def enter(admission: Admission, wanted: Seat) -> str:
    async with admission.seat(wanted):
        return wanted.model


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_is_forgotten_and_adapters_never_mix(seed: int) -> None:
    """Any order of coming, going and giving up: all others are served, never two adapters at once."""
    dice = random.Random(seed)
    admission = Admission(1000)
    running: Counter[str] = Counter()
    served = 0

    async def client(number: int) -> None:
        nonlocal served
        wanted = seat(dice.choice("abc"), dice.choice("xyz"), slots=3)
        async with admission.seat(wanted):
            running[wanted.model] += 1
            try:
                assert len(+running) == 1, f"two adapters at once: {running}"
                assert running.total() <= 3
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running[wanted.model] -= 1
        served += 1

    tasks = [asyncio.create_task(client(number)) for number in range(60)]
    for task in dice.sample(tasks, 15):
        await asyncio.sleep(0)
        task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    cut = sum(isinstance(result, asyncio.CancelledError) for result in results)
    assert served + cut == 60, results
    assert admission._lines == {}


async def test_in_a_full_line_who_asks_most_makes_room_for_who_asks_less() -> None:
    queue, _ = line(size=4)
    for _ in range(SLOTS):
        queue.join(seat(key="greedy"))
    waiting = [queue.join(seat(key="greedy")) for _ in range(4)]
    modest = queue.join(seat(key="modest"))
    assert modest is not None
    last = waiting[-1]
    assert last is not None
    assert isinstance(last.exception(), RateLimited), "its last came last"
    assert [told.done() for told in waiting if told] == [False, False, False, True]
    queue.give_up(seat(key="greedy"), last)  # its client goes away in the same moment
    assert queue.running == ("a", SLOTS)
    with pytest.raises(RateLimited):
        queue.join(seat(key="greedy"))
    queue.join(seat(key="modest"))
    with pytest.raises(RateLimited):
        queue.join(seat(key="modest"))
    for _ in range(2 * SLOTS):
        queue.leave(1)
    assert queue.idle


async def test_one_sent_away_is_told_and_takes_nothing_with_it() -> None:
    admission = Admission(1)

    async def ask(key: str) -> str:
        async with admission.seat(seat(key=key, slots=1)):
            await asyncio.sleep(0.01)
            return key

    tasks = [asyncio.create_task(ask(key)) for key in ("greedy", "greedy", "greedy", "modest")]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert done[0] == "greedy"
    assert [type(each) for each in done].count(RateLimited) == 2
    assert admission.busy() == {}
