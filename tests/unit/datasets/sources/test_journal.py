"""The journal: what is on disk at every moment, and going on after a cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.datasets.sources.journal import journal_path, open_journal
from corral.errors import BadRequest, Conflict, CorralError, InvalidData

SETTINGS: dict[str, Any] = {"url": "https://a.example", "seed": 1}


def written(out: Path, steps: int = 3) -> Path:
    with open_journal(out, SETTINGS) as journal:
        for number in range(steps):
            journal.add([b'{"n": %d}' % number], {"page": number})
    return out


def test_each_step_is_on_disk_when_add_returns(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.jsonl"
    with open_journal(out, SETTINGS) as journal:
        journal.add([b'{"a": 1}', b'{"a": 2}'], {"page": 0, "ids": ["x", "y"]})
        assert out.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
        lines = [json.loads(line) for line in journal_path(out).read_text().splitlines()]
        assert lines[0]["settings"] == SETTINGS
        assert lines[1] == {"page": 0, "ids": ["x", "y"], "rows": 2, "bytes": 18}
        assert journal.rows == 2


@pytest.mark.parametrize("cut", [1, 2, 30, 31, 32, 75, 90])
def test_wherever_the_journal_is_cut_the_rest_is_done_again(tmp_path: Path, cut: int) -> None:
    """Also rows without a journal line, and half a row: the three ways a crash can leave things."""
    whole = written(tmp_path / "whole.jsonl").read_bytes()
    out = written(tmp_path / "out.jsonl")
    text = journal_path(out).read_bytes()
    journal_path(out).write_bytes(text[:-cut])
    out.write_bytes(whole + b'{"n": 3}\n{"n"')
    with open_journal(out, SETTINGS, resume=True) as journal:
        done = [step["page"] for step in journal.past]
        assert done == list(range(len(done)))
        assert len(done) < 3
        assert journal.rows == len(done)
        for number in range(len(done), 3):
            journal.add([b'{"n": %d}' % number], {"page": number})
    assert out.read_bytes() == whole
    assert journal_path(out).read_bytes() == text


def test_a_run_that_ended_says_so(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl")
    with open_journal(out, SETTINGS, resume=True) as journal:
        assert not journal.done
        journal.finish({"rows": 3})
    with open_journal(out, SETTINGS, resume=True) as journal:
        assert journal.done
        assert len(journal.past) == 3
        journal.finish({"rows": 3})
    assert journal_path(out).read_text().count('"done"') == 1


def refused(out: Path, **options: Any) -> CorralError:
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    with pytest.raises(CorralError) as caught:
        open_journal(out, options.pop("settings", SETTINGS), **options)
    assert {path: path.read_bytes() for path in out.parent.iterdir() if path in before} == before
    return caught.value


def test_an_existing_file_is_not_touched_without_a_word(tmp_path: Path) -> None:
    error = refused(written(tmp_path / "out.jsonl"))
    assert isinstance(error, Conflict)
    assert "--resume" in error.message
    assert "--overwrite" in error.message


def test_other_settings_are_named(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl")
    error = refused(out, resume=True, settings={**SETTINGS, "seed": 2})
    assert isinstance(error, Conflict)
    assert "seed was 1, is 2" in error.message


def test_a_dataset_without_a_journal_is_not_resumed_into(tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    out.write_text('{"precious": 1}\n')
    assert isinstance(refused(out, resume=True), InvalidData)
    assert out.read_text() == '{"precious": 1}\n'


def test_a_dataset_shorter_than_its_journal_says_was_changed(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl")
    out.write_bytes(b"")
    assert "changed by other means" in refused(out, resume=True).message


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with open_journal(out, SETTINGS):
        assert "another run" in refused(out, resume=True).message
        assert "another run" in refused(out, overwrite=True).message
    with open_journal(out, SETTINGS, resume=True):
        pass


def test_overwrite_starts_again(tmp_path: Path) -> None:
    out = written(tmp_path / "out.jsonl")
    with open_journal(out, {"other": 1}, overwrite=True) as journal:
        assert journal.past == []
        journal.add([b"{}"], {"page": 0})
    assert out.read_bytes() == b"{}\n"


def test_only_jsonl_grows(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"suffix \.jsonl"):
        open_journal(tmp_path / "out.parquet", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_the_same_settings_in_other_clothes_are_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with open_journal(out, {"a": (1, 2), "b": None}):
        pass
    with open_journal(out, {"b": None, "a": [1, 2]}, resume=True):
        pass
