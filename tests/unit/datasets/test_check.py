"""What `corral data check` finds."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.datasets import check, containers
from corral.datasets.answers import fix_answers, python_literal
from corral.datasets.findings import Finding, Findings
from corral.datasets.rows import Row
from corral.errors import InvalidData
from tests.unit.datasets import corpus


def chat(user: str, answer: str, **keys: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}],
        **keys,
    }


def found(tmp_path: Path, *files: list[Any], **options: Any) -> list[Finding]:
    """The findings of files of rows, but for the one that says that there are few."""
    paths = []
    for number, rows in enumerate(files):
        path = tmp_path / f"f{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(path)
    findings = Findings()
    check.check_files(paths, findings, check.Options(**options))
    return [f for f in findings.kept if f.code != "few_rows"]


def turns(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
F_TOOL = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("row", "code", "severity", "field"),
    [
        (turns(("user", "q")), "no_answer", "error", "messages"),
        (turns(("user", "q"), ("assistant", " ")), "empty_answer", "error", "messages[1].content"),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a", "weight": 0},
                ]
            },
            "no_answer",
            "error",
            "messages",
        ),
        (turns(("assistant", "a")), "turn_order", "warning", "messages[0].role"),
        (
            turns(("user", "q"), ("user", "r"), ("assistant", "a")),
            "turn_order",
            "warning",
            "messages[1].role",
        ),
        (
            turns(("user", "q"), ("assistant", "a"), ("user", "r")),
            "last_turn",
            "warning",
            "messages[2].role",
        ),
        (
            turns(("user", "q"), ("system", "s"), ("assistant", "a")),
            "system_position",
            "warning",
            "messages[1].role",
        ),
        (turns(("user", ""), ("assistant", "a")), "empty_prompt", "warning", "messages[0].content"),
        (
            turns(("user", "q"), ("assistant", '{"a": 1')),
            "broken_json",
            "warning",
            "messages[1].content",
        ),
        (
            turns(("user", "q"), ("assistant", "{'a': None}")),
            "python_literal",
            "warning",
            "messages[1].content",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "tool", "tool_call_id": "x", "content": "r"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "tool_without_call",
            "error",
            "messages[1]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    CALL,
                    {"role": "tool", "tool_call_id": "x", "content": "r"},
                    {"role": "assistant", "content": "a"},
                ],
                "tools": F_TOOL,
            },
            "unknown_call",
            "error",
            "messages[2].tool_call_id",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    CALL,
                    {"role": "user", "content": "r"},
                    {"role": "assistant", "content": "a"},
                ],
                "tools": F_TOOL,
            },
            "call_unanswered",
            "warning",
            "messages[2]",
        ),
        (
            {"messages": [{"role": "user", "content": "q"}, CALL]},
            "unknown_tool",
            "warning",
            "messages[1].tool_calls[0].function.name",
        ),
        ({"prompt": "p", "completion": ""}, "empty_answer", "error", "completion"),
        ({"text": " "}, "empty_answer", "error", "text"),
        (
            {
                "input": turns(("user", "q")),
                "preferred_output": turns(("assistant", "a"))["messages"],
                "non_preferred_output": turns(("assistant", "a"))["messages"],
            },
            "same_answer",
            "error",
            "rejected",
        ),
        (
            chat("mail me at ann.lee@example.org", "ok"),
            "personal_data",
            "warning",
            "messages[0].content",
        ),
        (chat("pay 4111 1111 1111 1111", "ok"), "personal_data", "warning", "messages[0].content"),
        (chat("key AKIAIOSFODNN7EXAMPLE", "ok"), "secret", "warning", "messages[0].content"),
        (
            chat("q", "-----BEGIN RSA PRIVATE KEY-----\nMII"),
            "secret",
            "warning",
            "messages[1].content",
        ),
        (
            chat("git clone https://ann:hunter22@host/x", "ok"),
            "secret",
            "warning",
            "messages[0].content",
        ),
    ],
)
def test_one_row(row: Any, code: str, severity: str, field: str, tmp_path: Path) -> None:
    matching = [f for f in found(tmp_path, [row]) if f.code == code]
    assert [(f.severity, f.field, f.line) for f in matching] == [(severity, field, 1)]


def test_the_secret_itself_is_not_printed(tmp_path: Path) -> None:
    [finding] = found(tmp_path, [chat("token ghp_0123456789abcdefghijABCDEFGHIJ012345", "ok")])
    assert "0123456789abc" not in str(finding)


@pytest.mark.parametrize(
    "text",
    [
        "ISBN 978-3-16-148410-0",
        "LCCN 2001627090",
        "call number QA76.73.P98",
        "1234 5678 9012 3456",
        "2024-01-01 10:00",
        "6312d172-f0cf-40f6-b27d-9fa8feaf332f",
        "c2004, 1946-",
        "@handle",
    ],
)
def test_what_catalogue_records_are_full_of_is_no_secret(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, [chat(text, "ok")]) == []


def test_good_rows_have_no_findings(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "q"},
            CALL,
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "assistant", "content": "a"},
        ],
        "tools": F_TOOL,
    }
    assert found(tmp_path, [row, chat("x", '{"a": 1}'), chat("y", "[see note]")]) == []


def test_duplicates_and_other_answers_name_the_first_row(tmp_path: Path) -> None:
    rows = [chat("q", "a"), chat("r", "b"), chat("q", "a"), chat("q", "c")]
    result = {(f.line, f.code): f.message for f in found(tmp_path, rows)}
    assert result.keys() == {(3, "duplicate_row"), (4, "other_answer")}
    assert "line 1" in result[3, "duplicate_row"]


def test_a_system_turn_makes_rows_differ_but_not_questions(tmp_path: Path) -> None:
    rows = [turns(("system", s), ("user", "q"), ("assistant", "a")) for s in ("one", "two")]
    result = found(tmp_path, rows, near_duplicates=False)
    assert [f.code for f in result] == ["other_answer"]


def test_leaks_between_files_are_errors_and_name_both(tmp_path: Path) -> None:
    result = found(tmp_path, [chat("q", "a"), chat("r", "b")], [chat("r", "b"), chat("q", "other")])
    assert [(Path(f.file).name, f.line, f.code, f.severity) for f in result] == [
        ("f1.jsonl", 1, "leak", "error"),
        ("f1.jsonl", 2, "leak", "warning"),
    ]
    assert "f0.jsonl:2" in result[0].message


def test_near_duplicates_are_found_and_different_rows_are_not(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(120)]
    text, other = " ".join(words), " ".join(reversed(words))
    rows = [chat(text, "a"), chat(text.replace("word60", "changed"), "a"), chat(other, "b")]
    assert [(f.line, f.code) for f in found(tmp_path, rows)] == [(2, "near_duplicate")]
    assert found(tmp_path, rows, near_duplicates=False) == []
    leak = found(tmp_path, rows[:1], rows[1:2])
    assert [(Path(f.file).name, f.code) for f in leak] == [("f1.jsonl", "near_leak")]


def test_an_answer_that_every_row_has_is_reported_once(tmp_path: Path) -> None:
    result = found(tmp_path, [chat(f"question {n}", "I do not know.") for n in range(20)])
    assert [f.code for f in result] == ["repeated_answer"]


def test_rows_over_the_context_are_measured_only_when_they_could_be(tmp_path: Path) -> None:
    measured = []

    def measure(row: Row) -> int:
        measured.append(row)
        return len(row.messages[0].content or "") // 4

    rows = [chat("short", "a"), chat("x" * 5000, "b"), chat("y" * 3000, "c")]
    result = found(tmp_path, rows, context=1000, measure=measure, near_duplicates=False)
    assert [(f.line, f.code) for f in result] == [(2, "too_long")]
    assert len(measured) == 2


def test_a_row_that_the_template_refuses_is_an_error_at_its_line(tmp_path: Path) -> None:
    def refuse(row: Row) -> int:
        raise InvalidData("the model's chat template refuses these messages", param="messages")

    rows = [chat("x" * 5000, "b"), chat("short", "c")]
    result = found(tmp_path, rows, context=1000, measure=refuse)
    assert [(f.line, f.field, f.severity) for f in result] == [(1, "messages", "error")]


def test_findings_are_counted_beyond_those_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{bad\n" * 500 + json.dumps(chat("q", "a")) + "\n")
    streamed: list[Finding] = []
    findings = Findings(keep=10, stream=streamed.append)
    check.check_files([path], findings, check.Options(format="openai"))
    assert findings.count("error") == 500
    assert len(findings.kept) == 10 + 1
    assert len(streamed) == 500 + 1


def test_the_first_users_rows_are_read_with_a_warning_and_rewritten_as_json() -> None:
    expected = {"title", "contributors", "publication", "instanceTypeText", "modeOfIssuanceText"}
    at = corpus.place()
    row = corpus.read("openai", corpus.lines("openai")[0], at)
    assert row is not None
    answer = json.loads(str(fix_answers(row, at).messages[2].content))
    assert answer.keys() == expected | {"subjects", "classifications"}
    assert answer["publication"][0]["publisher"] == "[publisher not identified]"
    text = corpus.read("mlx-text", corpus.lines("mlx-text")[0], at)
    assert text is not None
    question, answer_text = fix_answers(text, at).text.split(" A:")
    assert question.startswith(
        "As an expert cataloger, you will create the FOLIO inventory JSON record. Q:For Statistical"
    )
    answer = json.loads(answer_text)
    assert answer.keys() == expected
    assert answer["publication"] == [
        {"publisher": "Springer", "place": "Cham :", "dateOfPublication": "2017", "role": None}
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': None, 'b': [True, 1.5]}", {"a": None, "b": [True, 1.5]}),
        ("['it\\'s']", ["it's"]),
        ('{"a": None}', {"a": None}),
        ('{"a": 1}', None),
        ("{not python}", None),
        ("{'a': {1, 2}}", None),
        ("{'a': (1, 2)}", {"a": (1, 2)}),
        ("{'a': '\\ud800'}", None),
        ("{'a': __import__('os')}", None),
        ("{'a': 1e999}", None),
        ("['" + "(" * 5000, None),
        ("'text'", None),
    ],
)
def test_python_literals(text: str, value: Any) -> None:
    assert python_literal(text) == value


def test_an_mlx_folder_is_checked_split_by_split(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(chat("q", "a")) + "\n")
    files = list(containers.split_files(tmp_path).values())
    findings = Findings()
    check.check_files(files, findings)
    assert findings.summary()["error"] == {"leak": 1}
