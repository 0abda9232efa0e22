"""`corral data edge-ai`, and the template that makes its rows of FOLIO's records."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corral.cli.data import app
from corral.datasets.sources.template import bundled
from tests.fakes.folio_records import STATISTICS

RECORD = {"title": "T", "instanceTypeId": "text"}


def write(path: Path, *answers: Any) -> Path:
    rows = [{"prompt": f"Sentence {n}", "completion": a} for n, a in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["edge-ai", *map(str, arguments)])
    return done.exit_code, done.stdout


def test_rows_become_conversations(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", json.dumps(RECORD), json.dumps(RECORD))
    prompt = tmp_path / "system.txt"
    prompt.write_text("As edge-ai says it.\n")
    status, told = run(source, tmp_path / "out.jsonl", "--system", prompt, "--json")
    assert (status, json.loads(told)["rows"]) == (0, 2)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    system, user, asking, found, _ = rows[0]["messages"]
    assert system["content"] == "As edge-ai says it.\n"
    assert user["content"] == "Sentence 0"
    call = asking["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"lookup_type": "instanceTypeId", "value": "text"}
    assert found["content"] != rows[1]["messages"][3]["content"]


@pytest.mark.parametrize("answer", ["no JSON", "[1]", json.dumps({"title": "T"})])
def test_an_answer_that_is_no_such_record_is_an_error(tmp_path: Path, answer: str) -> None:
    source = write(tmp_path / "in.jsonl", json.dumps(RECORD), answer)
    status, told = run(source, tmp_path / "out.jsonl", "--json")
    assert status == 1
    findings = json.loads(told)["findings"]
    assert [(f["line"], f["code"]) for f in findings] == [(2, "no_record")]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_nothing_is_written_when_no_row_is_good(tmp_path: Path) -> None:
    status, _ = run(write(tmp_path / "in.jsonl", "no"), tmp_path / "out.jsonl")
    assert status == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_the_template_writes_names_where_ids_will_be() -> None:
    filled = bundled("edge_ai.jinja").fill(
        {
            **STATISTICS,
            "contributors": [
                {"name": "Burdick, Richard K.", "contributorNameTypeText": "Personal name"},
                {"name": "B", "contributorNameTypeText": "Personal name", "contributorTypeText": "Author"},
            ],
            "instanceTypeText": "text",
        }
    )  # fmt: skip
    assert filled is not None
    assert filled.user.endswith(
        " by Burdick, Richard K. and B, published in 2017 by Springer in Cham"
    )
    assert json.loads(filled.answer) == {
        "title": STATISTICS["title"],
        "source": "AIModel",
        "instanceTypeId": "text",
        "contributors": [
            {"name": "Burdick, Richard K.", "contributorNameTypeId": "Personal name"},
            {"name": "B", "contributorNameTypeId": "Personal name", "contributorTypeId": "Author"},
        ],
        "publication": [{"publisher": "Springer", "dateOfPublication": "2017", "place": "Cham"}],
    }


def test_the_template_leaves_out_what_is_not_there() -> None:
    filled = bundled("edge_ai.jinja").fill({"title": "T", "instanceTypeText": "text"})
    assert filled is not None
    assert (filled.system, filled.user) == ("", "T")
    assert json.loads(filled.answer) == {
        "title": "T",
        "source": "AIModel",
        "instanceTypeId": "text",
    }
