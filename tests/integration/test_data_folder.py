"""`corral data folder` on a folder of every kind of file, and question-answer pairs by a teacher."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from corral.cli import data_sources
from corral.errors import BadRequest, Conflict
from tests.fakes.documents import docx, pdf
from tests.fakes.teacher_server import Fields, TeacherServer

app = typer.Typer()
data_sources.register(app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "cataloguing").mkdir(parents=True)
    (folder / "cataloguing" / "rules.md").write_text(
        "---\nauthor: me\n---\n# Rules\n\nTake the title page."
    )
    (folder / "b.docx").write_bytes(docx("Word", "From Word."))
    (folder / "c.pdf").write_bytes(pdf("From PDF"))
    (folder / "d.html").write_text("<h1>Web</h1><p>From HTML.</p>")
    (folder / "e.json").write_text('{"from": "JSON"}')
    (folder / "f.txt").write_text("From text.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7")
    (folder / "g.xlsx").write_bytes(b"")
    return folder


def run(folder: Path, out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["folder", str(folder), "--out", str(out), "--json", *arguments])


def summary(result: Result) -> Any:
    assert result.exception is None, (result.exception, result.output)
    return json.loads(result.stdout)


def test_every_kind_of_document(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = summary(run(folder, out))
    rows = {row["metadata"]["source"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert {source: row["text"] for source, row in rows.items()} == {
        "b.docx": "# Word\n\nFrom Word.",
        "c.pdf": "From PDF",
        "cataloguing/rules.md": "# Rules\n\nTake the title page.",
        "d.html": "# Web\n\nFrom HTML.",
        "e.json": '{\n "from": "JSON"\n}',
        "f.txt": "From text.",
    }
    assert rows["cataloguing/rules.md"]["metadata"] == {
        "author": "me",
        "source": "cataloguing/rules.md",
        "topics": ["cataloguing"],
        "chunk": 1,
        "headings": ["Rules"],
    }
    assert (result["rows"], result["files"], result["unreadable"], result["passed_over"]) == (
        6,
        6,
        1,
        1,
    )
    assert [finding["file"] for finding in result["findings"]] == ["broken.pdf"]


@pytest.mark.parametrize("name", ["out.json", "out.csv", "out.parquet"])
def test_other_containers(name: str, folder: Path, tmp_path: Path) -> None:
    assert summary(run(folder, tmp_path / name, "--no-metadata", "--size", "10"))["rows"] > 6
    assert isinstance(run(folder, tmp_path / name).exception, Conflict)


def test_tokens_need_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path / "out.jsonl", "--unit", "tokens")
    assert isinstance(result.exception, BadRequest)
    assert "--tokenizer" in result.exception.message


def pairs(fields: Fields) -> str | None:
    if "Word" in fields["passage"]:
        return "I cannot."
    first = fields["passage"].split()[-1]
    found = [
        {"question": f"What ends {first}?", "answer": first},
        {"question": "What is always said?", "answer": "The same thing."},
    ]
    return json.dumps(found[: int(fields["count"])])


def test_question_answer_pairs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "qa.jsonl"
    with TeacherServer(pairs) as server:
        asked = ["--qa", "--base-url", server.url, "--model", "m", "--pairs", "2"]
        first = summary(run(folder, out, *asked, "--max-requests", "3"))
        assert (first["stopped"], first["left"], first["requests"]) == ("--max-requests", 4, 3)
        again = summary(run(folder, out, *asked, "--resume"))
        assert (again["stopped"], again["requests"], again["rejected"]) == (None, 4, {"schema": 1})
        assert summary(run(folder, out, *asked, "--resume"))["requests"] == 0
    turns = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert [turn["role"] for turn in turns[0]] == ["user", "assistant"]
    asked_questions = [messages[0]["content"] for messages in turns]
    # One for each of the five passages that the teacher managed, and once the one it always has.
    assert len(asked_questions) == len(set(asked_questions)) == 6
    journal = [
        json.loads(line) for line in (tmp_path / "qa.jsonl.journal").read_text().splitlines()
    ]
    sources = {step["passage"]["source"] for step in journal if step.get("rows")}
    assert sources == {"c.pdf", "cataloguing/rules.md", "d.html", "e.json", "f.txt"}


def test_pairs_need_an_endpoint(folder: Path, tmp_path: Path) -> None:
    assert isinstance(run(folder, tmp_path / "qa.jsonl", "--qa").exception, BadRequest)
