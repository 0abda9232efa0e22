"""The layout of chats in plain text: “system Q:question A:answer”, as mlx-lm users write it."""

import re

from corral.datasets.rows import Message, text_of

_MARK = re.compile(r"(?:^| )(Q|A):")


def join(turns: tuple[Message, ...]) -> str | None:
    """One text for an optional system turn and user and assistant by turns; None for other orders."""
    system = text_of(turns[0].content) if turns and turns[0].role == "system" else None
    rest = turns if system is None else turns[1:]
    if not rest or [turn.role for turn in rest] != ["user", "assistant"] * (len(rest) // 2):
        return None
    marked = [f"{'Q' if turn.role == 'user' else 'A'}:{text_of(turn.content)}" for turn in rest]
    return " ".join(marked if system is None else [system, *marked])


def split(text: str) -> tuple[Message, ...] | None:
    """The turns of such a text; None when Q: and A: do not alternate in it."""
    marks = list(_MARK.finditer(text))
    if not marks or [mark[1] for mark in marks] != ["Q", "A"] * (len(marks) // 2):
        return None
    turns = []
    if marks[0].start() > 0:
        turns.append(Message("system", text[: marks[0].start()]))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        role = "user" if mark[1] == "Q" else "assistant"
        turns.append(Message(role, text[mark.end() : end]))
    return tuple(turns)
