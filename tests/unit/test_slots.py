"""Which slot a request gets: of its own model, and of a like beginning."""

import json

import pytest

from corral.gateway.slots import HEAD_BYTES, MOST_SECTIONS, Slot, Slots, head, pinned


class Course:
    """One section."""

    def __init__(self, count: int = 4) -> None:
        self.slots, self.count = Slots(), count

    def take(self, model: str, prompt: str) -> Slot:
        found = self.slots.take("s@1", self.count, model, prompt.encode())
        assert found is not None
        return found

    def ask(self, model: str, prompt: str) -> int:
        slot = self.take(model, prompt)
        self.slots.free(slot)
        return slot.number


def test_a_program_comes_back_to_its_slot_and_models_do_not_share_one() -> None:
    course = Course()
    first = [course.ask(model, program * 50) for program in "xy" for model in "ab"]
    assert sorted(first) == [0, 1, 2, 3]
    again = [course.ask(model, program * 50 + "more") for program in "xy" for model in "ab"]
    assert again == first


def test_what_is_new_takes_the_slot_that_was_used_longest_ago() -> None:
    course = Course(2)
    assert [course.ask("a", "x" * 50), course.ask("a", "y" * 50)] == [0, 1]
    assert course.ask("a", "x" * 50) == 0
    assert course.ask("a", "z" * 50) == 1
    assert course.ask("a", "x" * 4 + "w" * 46) == 0, "four of fifty are not alike"


def test_the_longest_beginning_wins_and_a_busy_slot_is_left_alone() -> None:
    course = Course(3)
    course.ask("a", "common " * 9)
    held = course.take("a", "common " * 9 + "tail")
    assert held.number == 0
    other = course.take("a", "common " * 9 + "tail")
    assert other.number == 1
    last = course.take("a", "else")
    assert course.slots.take("s@1", 3, "a", b"x") is None
    for slot in (held, other, last):
        course.slots.free(slot)
    assert course.ask("a", "common " * 9 + "tail") in (0, 1)


def test_sections_that_are_no_longer_asked_for_are_forgotten() -> None:
    slots = Slots()
    for number in range(MOST_SECTIONS + 5):
        slot = slots.take(f"s@{number}", 1, "a", b"x")
        assert slot is not None
        slots.free(slot)
    assert len(slots._of) == MOST_SECTIONS


@pytest.mark.parametrize("prompt", ["messages", "prompt"])
def test_where_the_prompt_begins_and_where_the_slot_goes(prompt: str) -> None:
    sent = json.dumps(
        {"model": "m", "seed": 5, prompt: "p" * 2 * HEAD_BYTES}, separators=(",", ":")
    )
    found = head(sent.encode(), prompt)
    assert found.startswith(b'"%s":"ppp' % prompt.encode())
    assert len(found) == HEAD_BYTES
    assert head(b"{}", prompt) == b""
    assert json.loads(pinned(sent.encode(), 3)) == {"id_slot": 3, **json.loads(sent)}
    assert pinned(b"{}", None) == b"{}"
