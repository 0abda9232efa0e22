"""A file is there whole or not at all; what had its name stays when writing fails."""

import errno
import os
from pathlib import Path

import pytest

from corral.registry import disk
from tests.fakes.disk_log import DiskLog


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DiskLog(tmp_path, monkeypatch)
    disk.write_whole(tmp_path / "a", b"one")
    assert log.said == ["flush a.part", "rename a.part", f"flush {tmp_path.name}/"]
    assert (tmp_path / "a").read_bytes() == b"one"
    (tmp_path / "b").write_bytes(b"two")
    log.said.clear()
    disk.put_in_place(tmp_path / "b", tmp_path / "a")
    assert log.said == ["flush b", "rename b", f"flush {tmp_path.name}/"]
    assert (tmp_path / "a").read_bytes() == b"two"


def test_a_folder_is_on_the_disk_with_those_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DiskLog(tmp_path, monkeypatch)
    disk.make_folder(tmp_path / "x" / "y")
    disk.make_folder(tmp_path / "x" / "y")
    assert log.said == [f"flush {tmp_path.name}/", "flush x/"]


def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write_whole(tmp_path / "kept", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        disk.write_whole(tmp_path / "kept", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"old"


def test_the_sum_of_a_file_larger_than_one_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (disk.CHUNK + 1))
    heard: list[int] = []
    found = disk.hash_of(tmp_path / "large", heard.append)
    assert found == "8d3d3c04baadfd31cbebf771836900097b5f36cc142b74e40747c7b372beab8b"
    assert heard == [disk.CHUNK, 1]
