"""Better ranks go first, nobody starves, and what rank a request has: no clock, no server."""

import asyncio
from typing import Any

import pytest

from corral.caller import Priority
from corral.errors import RateLimited
from corral.gateway import tiers
from corral.gateway.admission import TURN_SECONDS, Line, Seat
from corral.gateway.waiting import AGED_SECONDS, RANKS

Told = asyncio.Future[None]


class Course:
    """One line with one slot, and the order in which it lets in those that wait."""

    def __init__(self, size: int = 100, slots: int = 1) -> None:
        self.now = 100.0
        self.slots = slots
        self.line = Line(size, lambda: self.now)
        self.told: list[tuple[str, Told]] = []
        self.seats: dict[str, Seat] = {}

    def join(self, name: str, priority: str = "normal", model: str = "a", key: str = "") -> bool:
        """Whether it runs at once."""
        seat = Seat("s", self.slots, model, key or name, RANKS.index(priority))
        told = self.line.join(seat)
        if told is None:
            return True
        self.told.append((name, told))
        return told.done()

    def leave(self) -> str:
        """One ends: who gets its slot."""
        self.line.leave(1)
        return ",".join(self.begun())

    def begun(self) -> list[str]:
        done = [(name, told) for name, told in self.told if told.done()]
        self.told = [each for each in self.told if each not in done]
        return [name for name, told in done if told.exception() is None]

    def sent_away(self) -> list[str]:
        return [n for n, told in self.told if told.done() and told.exception() is not None]


async def test_high_goes_before_normal_before_low_whoever_came_first() -> None:
    course = Course()
    course.join("first")
    for name, priority in (("l", "low"), ("n", "normal"), ("h", "high"), ("h2", "high")):
        assert not course.join(name, priority)
    assert [course.leave() for _ in range(4)] == ["h", "h2", "n", "l"]


async def test_in_one_rank_keys_take_turns() -> None:
    course = Course()
    course.join("first")
    for number in range(3):
        course.join(f"g{number}", "high", key="greedy")
    course.join("m", "high", key="modest")
    assert [course.leave() for _ in range(4)] == ["g0", "m", "g1", "g2"]


async def test_who_has_waited_counts_one_rank_higher() -> None:
    course = Course()
    course.join("first")
    course.join("old", "normal")
    course.now += AGED_SECONDS - 1
    course.join("young", "high")
    assert course.leave() == "young", "not yet"
    course.join("younger", "high")
    course.now += 1
    assert course.leave() == "younger", "among the high ones it is the last that came"
    course.join("youngest", "high")
    assert course.leave() == "old"


@pytest.mark.parametrize("rank", ["normal", "low"])
async def test_nobody_starves_behind_an_endless_row_of_better_ones(rank: str) -> None:
    """The bound of the docstring: at the end of its ageing only turns hold it up."""
    course = Course()
    course.join("first")
    course.join("late", rank)
    began, number = course.now, 0
    while True:
        number += 1
        course.join(f"h{number}", "high", key=f"key{number % 3}")
        course.now += 0.25
        if course.leave() == "late":
            break
    turns = 4 * 0.25
    assert course.now - began <= RANKS.index(rank) * AGED_SECONDS + turns


async def test_a_high_one_cuts_the_turn_of_another_adapter_short() -> None:
    course = Course(slots=2)
    for name in ("a1", "a2", "a3"):
        course.join(name)
    course.join("b", "high", model="b")
    assert course.leave() == "", "its turn is not over, but nobody of it is let in any more"
    assert course.leave() == "b"
    assert course.leave() == "a3"


async def test_a_lower_one_of_another_adapter_ends_no_turn() -> None:
    course = Course(slots=1)
    course.join("a1")
    course.join("b", "low", model="b")
    course.join("a2")
    course.now += TURN_SECONDS
    assert [course.leave() for _ in range(2)] == ["a2", "b"]


async def test_in_a_full_line_a_lower_rank_makes_room_but_keeps_one_place_per_key() -> None:
    course = Course(size=3)
    course.join("first")
    for name in ("l1", "l2", "l3"):
        course.join(name, "low", key="batch")
    course.join("h1", "high", key="x")
    assert course.sent_away() == ["l3"], "the last that came"
    course.join("h2", "high", key="y")
    assert course.sent_away() == ["l2", "l3"]
    with pytest.raises(RateLimited):
        course.join("h3", "high", key="z")
    with pytest.raises(RateLimited):
        course.join("n", "normal", key="w")
    assert [course.leave() for _ in range(3)] == ["h1", "h2", "l1"]
    assert course.leave() == ""
    assert course.line.idle


async def test_a_low_one_still_gets_a_place_where_one_key_has_the_line() -> None:
    course = Course(size=3)
    course.join("first")
    for name in ("h1", "h2", "h3"):
        course.join(name, "high", key="greedy")
    assert not course.join("l", "low")
    assert course.sent_away() == ["h3"]


async def test_one_that_goes_away_after_it_has_aged_leaves_no_trace() -> None:
    course = Course()
    course.join("first")
    course.join("l", "low")
    course.now += 2 * AGED_SECONDS
    course.join("n")
    course.line.give_up(Seat("s", 1, "a", "l", RANKS.index("low")), course.told[0][1])
    assert course.leave() == "n"
    course.leave()
    assert course.line.idle


@pytest.mark.parametrize(
    ("priority", "tier", "rank", "told"),
    [
        ("normal", None, "normal", None),
        ("high", None, "high", None),
        ("normal", "auto", "normal", "default"),
        ("high", "auto", "high", "priority"),
        ("low", "default", "low", "flex"),
        ("high", "default", "normal", "default"),
        ("high", "flex", "low", "flex"),
        ("normal", "priority", "normal", "default"),
        ("high", "fast", "high", "priority"),
        ("high", "standard_only", "normal", "default"),
        ("high", "some day's word", "high", "priority"),
        ("normal", 7, "normal", None),
        ("normal", ["flex"], "normal", None),
    ],
)
def test_a_request_may_lower_its_keys_priority_and_never_raise_it(
    priority: Priority, tier: Any, rank: str, told: str | None
) -> None:
    body = {"service_tier": tier}
    found = tiers.rank(priority, body)
    assert RANKS[found] == rank
    assert tiers.told(found, body) == told
