"""Blobs by themselves: what reaches the disk in which order, and which files may be shared."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from corral.errors import InvalidModel
from corral.registry.blobs import BlobStore
from tests.fakes.disk_log import DiskLog

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.gguf"
    path.write_bytes(CONTENT)
    return path


def put(store: BlobStore, source: Path, move: bool = False) -> Path:
    """The blob that `source` becomes."""
    with store.adding("db"):
        found, size = store.put(source, move=move)
    assert (found, size) == (SHA256, len(CONTENT))
    return store.path(SHA256)


def same_file(one: Path, other: Path) -> bool:
    return one.stat().st_ino == other.stat().st_ino


def test_a_copy_is_flushed_before_it_is_named_and_its_name_before_it_counts(
    store: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.adding("db"):
        log = DiskLog(store.blobs, monkeypatch)
        store.put(source)
    flushed_copy, *rest = log.said
    assert re.fullmatch("flush [0-9a-f]{16}", flushed_copy)
    # The folders that were made for it, its name, the folder that has the name now.
    assert rest == ["flush blobs/", "flush sha256/", f"link {SHA256}", f"flush {SHA256[:2]}/"]
    assert list(store.incoming.iterdir()) == []


def test_a_file_that_is_moved_is_shared_read_only_and_flushed_first(
    store: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = DiskLog(tmp_path, monkeypatch)
    blob = put(store, source, move=True)
    assert same_file(blob, source)
    assert blob.stat().st_mode & 0o777 == 0o444
    linked = log.said.index(f"link {SHA256}")
    assert "flush in.gguf" in log.said[:linked]
    assert log.said[linked + 1] == f"flush {SHA256[:2]}/"


def test_a_file_with_another_name_that_may_be_written_is_not_shared(
    store: BlobStore, source: Path, tmp_path: Path
) -> None:
    """Whoever has the other name could change the blob."""
    other = tmp_path / "other"
    os.link(source, other)
    blob = put(store, source, move=True)
    assert not same_file(blob, source)
    other.write_bytes(b"changed")
    assert blob.read_bytes() == CONTENT
    assert source.stat().st_mode & 0o222  # and stays writable for its owner


def test_what_a_download_cache_keeps_read_only_is_shared(
    store: BlobStore, source: Path, tmp_path: Path
) -> None:
    os.link(source, tmp_path / "cache")
    source.chmod(0o444)
    assert same_file(put(store, source, move=True), source)


def test_a_symbolic_link_is_copied(store: BlobStore, source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    blob = put(store, link, move=True)
    assert not same_file(blob, source)
    assert not blob.is_symlink()


def test_a_torn_blob_under_the_right_name_is_replaced(store: BlobStore, source: Path) -> None:
    """What a machine without power left, whose size gives it away."""
    put(store, source).unlink()
    store.path(SHA256).write_bytes(CONTENT[:3])
    assert put(store, source).read_bytes() == CONTENT


def test_another_sum_than_the_one_given_is_refused_whether_moved_or_copied(
    store: BlobStore, source: Path
) -> None:
    for move in (True, False):
        with store.adding("db"), pytest.raises(InvalidModel) as refused:
            store.put(source, move=move, sha256="0" * 64)
        assert refused.value.message == (
            f"{source} has the sha256 {SHA256}, not {'0' * 64} as its manifest says; fetch or make "
            "it again"
        )
        assert not (store.blobs / "sha256").exists()
        assert source.read_bytes() == CONTENT


def test_the_shelf_is_on_the_disk_before_the_row_that_names_it(
    store: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, source)
    log = DiskLog(store.root, monkeypatch)
    store.set_out("a1", {"m.gguf": SHA256})
    assert log.said == ["flush data/", "flush shelf/", "link m.gguf", "flush a1/"]
    assert same_file(store.shelf / "a1" / "m.gguf", store.path(SHA256))
