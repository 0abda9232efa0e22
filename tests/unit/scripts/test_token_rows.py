"""Token rows come back as they were written, and a folder that is unfinished is no folder of rows."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

import safe_files
from corral.errors import DiskFullError, InvalidData
from token_rows import TokenRows, TokenWriter


def write(folder: Path) -> None:
    with TokenWriter(folder) as writer:
        writer.add([5, 0, 70_000], [False, True, True], 3)
        writer.add([0], [True], 4)
        writer.add([9, 8], [False, False], 9)
        writer.finish("chat", {"source": "a.jsonl"})


def test_rows_come_back(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    rows = TokenRows(tmp_path / "rows")
    assert len(rows) == 3
    assert rows[0].ids.tolist() == [5, 0, 70_000]
    assert rows[0].learned.tolist() == [False, True, True]
    assert (rows[1].ids.tolist(), rows[1].learned.tolist()) == ([0], [True])
    assert rows[2].ids.tolist() == [9, 8]
    assert rows.lines.tolist() == [3, 4, 9]
    assert rows.lengths.tolist() == [3, 1, 2]
    # A row's first token has nothing before it.
    assert rows.learned.tolist() == [2, 0, 0]
    assert rows.facts["tokens"] == 6
    assert rows.facts["longest"] == 3
    assert rows.facts["source"] == "a.jsonl"


def test_a_folder_without_its_end_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    with TokenWriter(tmp_path / "rows") as writer:
        writer.add([1], [True], 1)
    with pytest.raises(InvalidData, match=r"holds no token rows.*render_data.py"):
        TokenRows(tmp_path / "rows")


def test_a_shortened_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    tokens = tmp_path / "rows" / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-4])
    with pytest.raises(InvalidData, match="damaged"):
        TokenRows(tmp_path / "rows")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    safe_files.write(tmp_path / "kept", b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        DiskFullError, match=r"no space left while writing .*kept \([\d,]+ bytes free"
    ):
        safe_files.write(tmp_path / "kept", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"old"


def test_what_rows_json_says_is_json(tmp_path: Path) -> None:
    write(tmp_path / "rows")
    said = json.loads((tmp_path / "rows" / "rows.json").read_text())
    assert np.sum([said["examples"], said["learned_tokens"]]) == 5
