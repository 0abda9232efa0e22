"""How right one answer is: as a whole, as JSON, under its schema, field by field. Pure."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TEXT = "(text)"


@dataclass(frozen=True)
class Counts:
    """Of values: found and expected, found only, expected only."""

    right: int = 0
    extra: int = 0
    missing: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.right + other.right, self.extra + other.extra, self.missing + other.missing
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where nothing was expected and nothing came."""
        total = 2 * self.right + self.extra + self.missing
        return 2 * self.right / total if total else 1.0


@dataclass(frozen=True)
class Outcome:
    """One row's result. `valid`: the answer parses as JSON. `exact`: it equals the expected value after
    parsing. `schema`: it keeps to the row's schema, None without one. `fields`: counts by top-level
    key, TEXT where the expected answer is no JSON object."""

    prompt: str
    expected: str
    answer: str
    valid: bool
    exact: bool
    schema: bool | None = None
    fields: dict[str, Counts] = field(default_factory=dict)
    ms: float = 0.0


def parsed(text: str) -> tuple[bool, Any]:
    """Whether the text is JSON, and its value; the text itself when it is not."""
    try:
        return True, json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False, text


def calls(message: dict[str, Any]) -> str:
    """The tool calls of a message as JSON text, arguments parsed where they can be; empty without any."""
    made = [call["function"] for call in message.get("tool_calls") or []]
    named = [{"name": call["name"], "arguments": parsed(call["arguments"])[1]} for call in made]
    return json.dumps(named, ensure_ascii=False) if named else ""


def said(message: dict[str, Any]) -> str:
    """What a message amounts to: its tool calls, else its text."""
    return calls(message) or _text(message.get("content"))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def judge(row: dict[str, Any], answer: dict[str, Any], ms: float = 0.0) -> Outcome:
    """Compare a model's message with the last message of the row."""
    expected, given = said(row["messages"][-1]), said(answer)
    valid, value = parsed(given)
    wanted_valid, wanted = parsed(expected)
    exact = value == wanted if valid else given.strip() == expected.strip()
    fields = field_counts(wanted if wanted_valid else expected, value)
    prompt = _text(row["messages"][-2].get("content"))
    return Outcome(prompt, expected, given, valid, exact, keeps_schema(row, answer), fields, ms)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value as JSON) of every leaf. Places in a list do not count: a list is a bag of values."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, json.dumps(value, ensure_ascii=False, sort_keys=True)


def field_counts(expected: Any, found: Any) -> dict[str, Counts]:
    """Counts for each top-level key of either; words are compared where a text was expected."""
    if not isinstance(expected, dict):
        if isinstance(expected, str):
            return {TEXT: _counts(expected.split(), str(found).split())}
        return {TEXT: _counts(list(leaves(expected)), list(leaves(found)))}
    other = found if isinstance(found, dict) else {}
    return {
        key: _counts(
            list(leaves(expected[key])) if key in expected else [],
            list(leaves(other[key])) if key in other else [],
        )
        for key in [*expected, *(key for key in other if key not in expected)]
    }


def _counts(expected: list[Any], found: list[Any]) -> Counts:
    wanted, got = Counter(expected), Counter(found)
    right = (wanted & got).total()
    return Counts(right, got.total() - right, wanted.total() - right)


def total_fields(outcomes: list[Outcome]) -> dict[str, Counts]:
    """Counts by field over all rows."""
    totals: dict[str, Counts] = {}
    for outcome in outcomes:
        for name, counts in outcome.fields.items():
            totals[name] = totals.get(name, Counts()) + counts
    return totals


def keeps_schema(row: dict[str, Any], answer: dict[str, Any]) -> bool | None:
    """Whether an answer is valid under the row's `response_format` schema, or each tool call under its
    tool's parameters. None when the row has neither."""
    wanted = (row.get("response_format") or {}).get("json_schema", {}).get("schema")
    tools = {each["function"]["name"]: each["function"] for each in row.get("tools") or []}
    made = answer.get("tool_calls") or []
    if made or (tools and row["messages"][-1].get("tool_calls")):
        return bool(made) and all(
            call["function"]["name"] in tools
            and _valid(
                call["function"]["arguments"], tools[call["function"]["name"]].get("parameters")
            )
            for call in made
        )
    return _valid(_text(answer.get("content")), wanted) if wanted else None


def _valid(text: str, schema: Any) -> bool:
    import jsonschema

    is_json, value = parsed(text)
    if not is_json:
        return False
    try:
        jsonschema.validate(value, schema or {})
    except jsonschema.ValidationError:
        return False
    return True
