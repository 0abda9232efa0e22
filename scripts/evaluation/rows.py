"""The rows of an evaluation file: OpenAI chats whose last message is the expected answer."""

import json
from pathlib import Path
from typing import Any

from corral.errors import InvalidData


def read_rows(path: Path, most: int | None) -> list[dict[str, Any]]:
    """The rows, or the first `most` lines; InvalidData names the first one without an answer."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path} cannot be read: {error}", param="file") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines[:most], 1)]
    if not rows:
        raise InvalidData(f"{path} has no rows", param="file")
    return rows


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        good = len(row["messages"]) > 1 and row["messages"][-1]["role"] == "assistant"
    except (ValueError, KeyError, TypeError, IndexError):
        good = False
    if not good:
        raise InvalidData(
            f"{path}:{number}: messages: no chat whose last message is an assistant's, the expected answer",
            param="messages",
        )
    return row
