"""A file is there whole or not at all; what had its name stays when writing fails."""

import errno
import os
from pathlib import Path

import pytest

from corral.registry import disk


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order: `flush NAME` and `rename NAME`."""
    said: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(handle: int) -> None:
        fsync(handle)
        said.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")

    def noting_replace(part: Path, final: Path) -> Path:
        said.append(f"rename {part.name}")
        return replace(part, final)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return said


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, log: list[str]
) -> None:
    disk.write_whole(tmp_path / "a", b"one")
    whole = ["flush a.part", "rename a.part", f"flush {tmp_path.name}"]
    assert log == whole
    assert (tmp_path / "a").read_bytes() == b"one"
    (tmp_path / "b.part").write_bytes(b"two")
    log.clear()
    disk.put_in_place(tmp_path / "b.part", tmp_path / "a")
    assert log == [step.replace("a.part", "b.part") for step in whole]
    assert (tmp_path / "a").read_bytes() == b"two"


def test_a_folder_is_on_the_disk_with_those_above_it(tmp_path: Path, log: list[str]) -> None:
    disk.make_folder(tmp_path / "x" / "y")
    disk.make_folder(tmp_path / "x" / "y")
    assert log == [f"flush {tmp_path.name}", "flush x"]


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
