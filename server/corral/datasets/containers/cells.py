"""Rows in tables: which columns hold JSON text, and what a cell cannot tell apart."""

from typing import Any

import msgspec

from corral.datasets.findings import Place, shown

# Columns that are never plain text in any format.
ALWAYS_JSON = frozenset(
    [
        "messages",
        "conversations",
        "tools",
        "functions",
        "contents",
        "systemInstruction",
        "system_instruction",
        "history",
        "preferred_output",
        "non_preferred_output",
        "preferred_completion",
        "non_preferred_completion",
        "parallel_tool_calls",
    ]
)
# Text in one format, turns in another: told apart by how the cell begins.
SOMETIMES_JSON = frozenset(["prompt", "completion", "chosen", "rejected", "input"])
_BEGINNINGS = ('[{"role"', '{"role"', '[{"from"', '{"from"', '{"messages"')


def parse_cell(column: str, text: str, place: Place) -> Any:
    """The value of a text cell; a finding and None when a JSON column does not parse."""
    if not is_json_cell(column, text):
        return text
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        place.error(
            column, "bad_cell", f"found {shown(text)}; this column holds JSON text ({error})"
        )
        return None


def is_json_cell(column: str, text: str) -> bool:
    """Whether a reader takes this cell as JSON."""
    return column in ALWAYS_JSON or (column in SOMETIMES_JSON and text.startswith(_BEGINNINGS))


def plain(value: Any) -> Any:
    """The value with each `Raw` replaced by its exact text: tables keep arguments as text."""
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
