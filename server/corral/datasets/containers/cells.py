"""Which columns of a table hold JSON text."""

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


def is_json_cell(column: str, text: str) -> bool:
    """Whether a reader takes this cell as JSON."""
    return column in ALWAYS_JSON or (column in SOMETIMES_JSON and text.startswith(_BEGINNINGS))
