"""The pure parts of the parity check: which turns are learned, and where."""

from typing import Any

import numpy as np

from check_parity import first_difference, spans, turns_of
from token_rows import TokenRow


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CHAT = [
    message("user", "one"),
    message("assistant", "two", weight=0),
    message("user", "three"),
    message("assistant", "four", weight=1),
]


def test_learned_turns_of_a_chat_as_a_client_sends_them() -> None:
    (turn,) = turns_of({"messages": CHAT, "tools": [{"x": 1}]})
    assert turn.before == [
        message("user", "one"), message("assistant", "two"), message("user", "three")
    ]  # fmt: skip
    assert turn.answer == message("assistant", "four")
    assert turn.tools == [{"x": 1}]


def test_both_sides_of_a_preference() -> None:
    asked = [message("user", "q"), message("assistant", "a"), message("user", "r")]
    row = {
        "input": {"messages": asked},
        "preferred_output": [message("assistant", "good")],
        "non_preferred_completion": [message("assistant", "poor")],
    }
    turns = list(turns_of(row))
    assert [turn.answer["content"] for turn in turns] == ["good", "poor"]
    assert all(turn.before == asked for turn in turns)


def test_prompt_and_completion_and_text() -> None:
    (turn,) = turns_of({"prompt": "p", "completion": "c"})
    assert (turn.before, turn.answer) == ([message("user", "p")], message("assistant", "c"))
    assert list(turns_of({"text": "t"})) == []


def test_spans_of_a_mask() -> None:
    mask = np.array([0, 1, 1, 0, 0, 1], bool)
    assert spans(TokenRow(np.arange(6), mask)) == [(1, 3), (5, 6)]
    assert spans(TokenRow(np.arange(2), np.array([True, True]))) == [(0, 2)]
    assert spans(TokenRow(np.arange(2), np.array([False, False]))) == []


def test_where_tokens_part() -> None:
    assert first_difference([1, 2, 3], [1, 2, 4]) == 2
    assert first_difference([1, 2], [1, 2, 4]) == 2
    assert first_difference([], []) == 0
