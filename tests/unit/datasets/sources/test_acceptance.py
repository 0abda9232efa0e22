"""What is kept of a teacher's output."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.datasets.sources.acceptance import (
    Accepted,
    Schema,
    json_value,
    marks,
    schema_from_file,
    without_fence,
)
from corral.datasets.strict_json import BadJSON
from corral.errors import BadRequest, InvalidData

LONG = "an answer that is much longer than forty characters"
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": {"type": "integer", "minimum": 1400}},
    "required": ["title"],
    "additionalProperties": False,
}


def test_prompts_that_are_there_or_nearly() -> None:
    accepted = Accepted()
    accepted.know_prompt("Describe the history of the printing press in the German lands.")
    assert accepted.prompt("describe  the history of the printing press in the German lands.") == (
        "duplicate_prompt"
    )
    assert accepted.prompt("Describe the history of the printing press in the German lands!") == (
        "near_duplicate_prompt"
    )
    assert accepted.prompt("Why did paper mills spread along rivers in the 1400s?") is None
    assert accepted.prompt("Why did paper mills spread along rivers in the 1400s?") is not None


def test_many_prompts_are_remembered() -> None:
    accepted = Accepted()
    for number in range(300):
        words = " ".join(f"w{number * 7 + place}" for place in range(8))
        assert accepted.prompt(words) is None
    assert accepted.prompt(" ".join(f"w{place}" for place in range(8))) == "duplicate_prompt"


@pytest.mark.parametrize("text", ["", " a ", "The new request: write it", "[[ ## x ## ]]"])
def test_prompts_that_are_none(text: str) -> None:
    assert Accepted().prompt(text) in ("empty_prompt", "copied_task")


def test_words_of_the_task_may_come_from_the_parent() -> None:
    assert Accepted().prompt("Write a new request form", "How is a new request made?") is None


def test_answers() -> None:
    accepted = Accepted()
    assert accepted.answer(marks("p", LONG)) is None
    assert accepted.answer(marks("p", f" {LONG.upper()} ")) == "duplicate_row"
    assert accepted.answer(marks("q", LONG)) == "repeated_answer"
    assert accepted.answer(marks("p", "yes")) is None
    assert accepted.answer(marks("q", "yes")) is None
    assert accepted.answer(marks("q", "yes")) == "duplicate_row"
    assert accepted.answer(marks("q", " \n")) == "empty_answer"


def test_what_was_kept_in_an_earlier_run_is_known() -> None:
    later = Accepted()
    later.know_answer(json.loads(json.dumps(marks("p", LONG))))
    assert later.answer(marks("p", LONG)) == "duplicate_row"
    assert later.answer(marks("q", LONG)) == "repeated_answer"


@pytest.mark.parametrize(
    ("text", "kept", "wrong"),
    [
        ('{"title": "書", "year": 1999}', '{"title": "書", "year": 1999}', None),
        ('```json\n{"title":"A"}\n```', '{"title": "A"}', None),
        ('{"year": 1999}', None, "'title' is a required property"),
        ('{"title": "A", "year": 1}', None, "at $.year: 1 is less than the minimum of 1400"),
        ("{'title': 'A'}", None, "Python literal"),
        ("Here you are", None, "not JSON"),
        ('{"title": "A"} and more', None, "not JSON"),
        ('{"title": "A"}, "x": 1', None, "not JSON at column 15"),
        ('"A", "x": 1', None, "more follows"),
        ('{"title": "A", "title": "B"}', None, "given twice"),
        ("", None, "not JSON"),
        ('{"title": NaN}', None, "not JSON"),
    ],
)
def test_answers_are_held_to_the_schema(text: str, kept: str | None, wrong: str | None) -> None:
    found, problem = Schema(SCHEMA, "s").check(text)
    if wrong is None:
        assert (found, problem) == (kept, None)
    else:
        assert problem is not None
        assert wrong in problem


def test_schemas_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="schema s: "):
        Schema({"type": "nonsense"}, "s")
    with pytest.raises(InvalidData, match="cannot read schema"):
        schema_from_file(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InvalidData, match="is not JSON"):
        schema_from_file(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text(json.dumps(SCHEMA))
    assert json.loads(schema_from_file(tmp_path / "good.json").text) == SCHEMA


def test_a_schema_never_sends_us_to_the_network() -> None:
    schema = Schema({"$ref": "https://example.org/schema.json"}, "s")
    with pytest.raises(BadRequest, match=r"points to https://example\.org"):
        schema.check("{}")


@pytest.mark.parametrize(("text", "value"), [("[1]", [1]), ('"a"', "a"), (" null ", None)])
def test_json_values(text: str, value: Any) -> None:
    assert json_value(text) == value


def test_json_values_that_are_two() -> None:
    with pytest.raises(BadJSON):
        json_value('1, "value": 2')


@pytest.mark.parametrize(
    ("text", "inner"),
    [("```\na\n```", "a"), ("```json\na\nb\n```", "a\nb"), (" a ", "a"), ("```", "```")],
)
def test_fences(text: str, inner: str) -> None:
    assert without_fence(text) == inner
