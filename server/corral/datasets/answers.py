"""Answers that are meant as JSON: Python literals among them, found and rewritten."""

import ast
import json
import re
from typing import Any

import msgspec

from corral.datasets import text_layout
from corral.datasets.findings import Place, shown
from corral.datasets.rows import Message, Row

# Past this an answer is no hand-made record, and Python's parser would take seconds on it.
_MAX_LITERAL = 200_000
_LOOKS_LIKE_JSON = re.compile(r'\s*(?:\{\s*"|\[\s*[\[{"])')
_LOOKS_LIKE_PYTHON = re.compile(r"\s*[\[{]")


def python_literal(text: str) -> Any:
    """The dict or list that the text writes as Python does (`{'a': None}`); None when it is JSON
    already, or no such thing."""
    if not _LOOKS_LIKE_PYTHON.match(text) or len(text) > _MAX_LITERAL:
        return None
    if "'" not in text and "None" not in text and "True" not in text and "False" not in text:
        return None
    if is_json(text):
        return None
    try:
        value = ast.literal_eval(text.strip())
        as_json(value).encode()
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def as_json(value: Any) -> str:
    """Compact JSON. Raises TypeError or ValueError for what JSON lacks: sets, bytes, infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def is_json(text: str) -> bool:
    """Whether the text is JSON."""
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def check_answer(text: str, field: str, place: Place) -> None:
    """Warn about an answer that is a Python literal, or JSON that breaks off."""
    if not text or (text[0] not in "{[" and not text[0].isspace()):
        return
    if python_literal(text) is not None:
        place.warning(
            field,
            "python_literal",
            f"found {shown(text, 30)}, a Python literal; a model trained on it writes no JSON "
            "(corral data convert --fix-answers rewrites it)",
        )
    elif _LOOKS_LIKE_JSON.match(text) and not is_json(text):
        place.warning(
            field,
            "broken_json",
            f"found {shown(text, 30)}, which begins as JSON but is not valid JSON",
        )


def check_answers(row: Row, place: Place) -> None:
    """`check_answer` for every text that a row teaches."""
    if row.kind == "completion":
        check_answer(row.completion, "completion", place)
    elif row.kind == "text":
        for turn in text_layout.split(row.text) or ():
            if turn.role == "assistant" and isinstance(turn.content, str):
                check_answer(turn.content, "text", place)
    for field, turns in (
        ("messages", row.messages),
        ("chosen", row.chosen),
        ("rejected", row.rejected),
    ):
        for number, turn in enumerate(turns):
            if turn.role == "assistant" and isinstance(turn.content, str):
                check_answer(turn.content, f"{field}[{number}].content", place)


def fix_answers(row: Row, place: Place) -> Row:
    """The row with every Python literal among its answers rewritten as compact JSON."""
    if row.kind == "completion":
        return msgspec.structs.replace(row, completion=_fixed(row.completion, "completion", place))
    if row.kind == "text":
        turns = text_layout.split(row.text)
        fixed = _fixed_turns(turns, "text", place) if turns else ()
        text = text_layout.join(fixed) if fixed != turns else None
        return row if text is None else msgspec.structs.replace(row, text=text)
    return msgspec.structs.replace(
        row,
        messages=_fixed_turns(row.messages, "messages", place),
        chosen=_fixed_turns(row.chosen, "chosen", place),
        rejected=_fixed_turns(row.rejected, "rejected", place),
    )


def _fixed_turns(turns: tuple[Message, ...], field: str, place: Place) -> tuple[Message, ...]:
    return tuple(
        msgspec.structs.replace(
            turn,
            content=_fixed(
                turn.content, field if field == "text" else f"{field}[{number}].content", place
            ),
        )
        if turn.role == "assistant" and isinstance(turn.content, str)
        else turn
        for number, turn in enumerate(turns)
    )


def _fixed(text: str, field: str, place: Place) -> str:
    value = python_literal(text)
    if value is None:
        return text
    place.note(field, "fixed_answer", "a Python literal became JSON")
    return as_json(value)
