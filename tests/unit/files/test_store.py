"""The store: what is kept, listed, deleted, swept; and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from corral import database
from corral.errors import BadRequest, Conflict, DiskFullError, NotFound, StoreError
from corral.files import tables
from corral.files.store import Files
from corral.files.tables import FileRow
from corral.jobs.clock import now
from corral.jobs.queue import Queue
from corral.settings import Settings
from tests.unit.files.conftest import left

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def added(files: Files, content: bytes = b"hello", **more: Any) -> FileRow:
    with files.receive() as incoming:
        incoming.write(content)
        return files.keep(incoming, **{"filename": "a.jsonl", "purpose": "fine-tune", **more})


def age(settings: Settings, id: str, **columns: object) -> None:
    """Change a file's row behind the store's back."""
    with database.writing(database.ready(settings)) as connection:
        changed = update(tables.files).where(tables.files.c.id == id)
        connection.execute(changed.values(**columns))


def test_what_is_kept_is_there_read_only_under_its_id(files: Files, settings: Settings) -> None:
    row = added(files)
    assert row.id.startswith("file-")
    assert len(row.id) == len("file-") + 24
    assert (row.bytes, row.sha256, row.owner, row.job_id) == (5, HELLO, "local", None)
    assert abs(row.created - time.time()) < 60
    assert files.get(row.id) == row == files.get(row.id, "local")
    path = files.path(row.id)
    assert path == settings.data_dir / "files" / row.id
    assert path.read_bytes() == b"hello"
    assert path.stat().st_mode & 0o777 == 0o444
    assert left(settings) == [row.id]


def test_what_is_not_kept_leaves_nothing(files: Files, settings: Settings) -> None:
    with files.receive() as incoming:
        incoming.write(b"half")
        assert len(left(settings)) == 1
    assert left(settings) == []
    with pytest.raises(StoreError, match="closed"):
        incoming.write(b"more")


def test_an_unknown_file_is_told(files: Files) -> None:
    for ask in (files.get, files.delete):
        with pytest.raises(NotFound, match="no file `file-x`") as told:
            ask("file-x")
        assert told.value.param == "file_id"
    with pytest.raises(NotFound) as named:
        files.get("file-x", param="training_file")
    assert named.value.param == "training_file"


def test_a_file_of_another_owner_is_unknown(files: Files) -> None:
    row = added(files, owner="other")
    assert files.get(row.id).owner == "other"
    with pytest.raises(NotFound):
        files.get(row.id, "local")
    with pytest.raises(NotFound):
        files.delete(row.id, "local")
    assert files.list(10, owner="local") == ([], False)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0b", "a\x1b[2J"])
def test_a_name_that_cannot_be_shown_is_refused(
    files: Files, settings: Settings, name: str
) -> None:
    with pytest.raises(BadRequest, match="printable") as told:
        added(files, filename=name)
    assert told.value.param == "file"
    assert left(settings) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "ünï 表.jsonl", "."])
def test_a_name_is_kept_and_never_a_path(files: Files, settings: Settings, name: str) -> None:
    row = added(files, filename=name)
    assert files.get(row.id).filename == name
    assert left(settings) == [row.id]


def test_pages_in_both_orders_and_by_purpose(files: Files) -> None:
    ids = [added(files, purpose=p).id for p in ("batch", "fine-tune", "batch", "evals", "batch")]
    rows, more = files.list(2)
    assert ([row.id for row in rows], more) == (ids[:2:-1], True)
    rows, more = files.list(3, after=ids[3])
    assert ([row.id for row in rows], more) == (ids[2::-1], False)
    rows, more = files.list(2, order="asc", purpose="batch")
    assert ([row.id for row in rows], more) == ([ids[0], ids[2]], True)
    rows, more = files.list(2, after=ids[2], order="asc", purpose="batch")
    assert ([row.id for row in rows], more) == ([ids[4]], False)
    with pytest.raises(NotFound) as told:
        files.list(2, after="file-x")
    assert told.value.param == "after"


def test_a_list_goes_on_behind_a_file_that_was_deleted(files: Files, settings: Settings) -> None:
    ids = [added(files).id for _ in range(5)]
    found: list[str] = []
    after, more = None, True
    while more:
        rows, more = files.list(2, after)
        for row in rows:
            files.delete(row.id)
        found += [row.id for row in rows]
        after = found[-1]
    assert found == ids[::-1]
    assert left(settings) == []


def test_a_deleted_file_is_gone_while_readers_read_on(files: Files) -> None:
    row = added(files)
    with files.path(row.id).open("rb") as reader:
        assert files.delete(row.id) == row
        assert reader.read() == b"hello"
    with pytest.raises(NotFound):
        files.get(row.id)
    with pytest.raises(NotFound):
        files.delete(row.id)
    assert not files.path(row.id).exists()


def test_an_expired_file_vanishes(files: Files, settings: Settings) -> None:
    with files.receive() as incoming:
        incoming.write(b"x")
        row = files.keep(incoming, filename="a", purpose="batch", seconds=3600)
    assert row.expires_at == pytest.approx(row.created + 3600, abs=1)
    kept = added(files)
    age(settings, row.id, expires_at=now() - 1)
    with pytest.raises(NotFound):
        files.get(row.id)
    assert [found.id for found in files.list(10)[0]] == [kept.id]
    assert [path for path, _ in files.sweep()] == [files.path(row.id)]
    assert left(settings) == [kept.id]
    assert files.list(10, after=kept.id) == ([], False)
    age(settings, row.id, gone=now() - 90_000)
    files.sweep()
    with pytest.raises(NotFound):
        files.list(10, after=row.id)


def test_a_file_that_an_open_job_names_stays(files: Files, settings: Settings) -> None:
    row, other = added(files), added(files)
    queue = Queue(database.ready(settings))
    job = queue.submit("finetune", {"request": {"training_file": row.id}, "also": ["x"]})
    with pytest.raises(Conflict, match=f"job {job['id']}") as told:
        files.delete(row.id)
    assert (told.value.param, told.value.code) == ("file_id", "file_in_use")
    files.delete(other.id)
    age(settings, row.id, expires_at=now() - 1)
    assert files.sweep() == []
    assert files.path(row.id).read_bytes() == b"hello"
    queue.cancel(job["id"])
    assert [path for path, _ in files.sweep()] == [files.path(row.id)]


def test_a_local_file_may_be_added_again_under_its_id(
    files: Files, settings: Settings, tmp_path: Path
) -> None:
    source = tmp_path / "step_metrics.csv"
    source.write_bytes(b"hello")
    wanted = {"filename": source.name, "purpose": "fine-tune-results"}

    def add() -> FileRow:
        return files.add_local(source, file_id="file-" + "a" * 24, job_id="job_1", **wanted)

    row = add()
    assert (row.sha256, row.job_id, row.purpose) == (HELLO, "job_1", "fine-tune-results")
    assert add() == row
    assert files.add_local(source, **wanted).id != row.id
    source.write_bytes(b"other")
    with pytest.raises(Conflict, match="other bytes"):
        add()
    assert files.path(row.id).read_bytes() == b"hello"
    files.delete(row.id)
    assert add().sha256 != row.sha256
    assert len(left(settings)) == 2
    assert files.sweep() == []


def test_a_sweep_leaves_alone_what_is_being_received(files: Files, settings: Settings) -> None:
    database.ready(settings)
    with files.receive() as incoming:
        incoming.write(b"x")
        assert Files(settings).sweep() == []
        row = files.keep(incoming, filename="a", purpose="batch")
    assert files.sweep() == []
    assert left(settings) == [row.id]


def test_a_sweep_of_a_new_data_directory_makes_nothing(files: Files, settings: Settings) -> None:
    assert files.sweep() == []
    assert not settings.data_dir.exists()


def test_a_sweep_removes_what_no_row_names(files: Files, settings: Settings) -> None:
    row = added(files)
    root = settings.data_dir / "files"
    for name in ("file-" + "b" * 24, "parts/part_" + "c" * 24, "tmp/d"):
        (root / name).write_bytes(b"left")
    (root / "notes.txt").write_text("mine")  # not ours: not touched
    assert len(files.sweep()) == 3
    assert left(settings) == sorted([row.id, "notes.txt"])


KILLED = """
import os, signal, sys
from corral.files import disk, store
from corral.files.store import Files
from corral.settings import Settings
from pathlib import Path
from typing import Any

def die(*_): os.kill(os.getpid(), signal.SIGKILL)

files = Files(Settings(data_dir=Path(sys.argv[1])))
with files.receive() as incoming:
    incoming.write(b"x" * 1000)
    if sys.argv[2] == "received": die()
    if sys.argv[2] == "flushed": incoming.name = die
    if sys.argv[2] == "named":
        name = incoming.name
        incoming.name = lambda id: (name(id), die())
    files.keep(incoming, filename="a", purpose="batch")
    die()
"""


@pytest.mark.parametrize(
    ("step", "rows", "swept"),
    [("received", 0, 1), ("flushed", 0, 1), ("named", 0, 1), ("end", 1, 0)],
)
def test_a_killed_process_leaves_at_most_what_is_swept(
    files: Files, settings: Settings, step: str, rows: int, swept: int
) -> None:
    database.ready(settings)
    argv = [sys.executable, "-c", KILLED, str(settings.data_dir), step]
    assert subprocess.run(argv).returncode == -signal.SIGKILL
    assert len(left(settings)) == 1
    assert len(files.list(10)[0]) == rows
    assert len(files.sweep()) == swept
    assert len(left(settings)) == rows


def test_adding_deleting_and_sweeping_at_once_lose_nothing(
    files: Files, settings: Settings
) -> None:
    kept: list[FileRow] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def add_and_delete() -> None:
        try:
            for _ in range(5):
                store = Files(settings)
                kept.append(added(store))
                store.delete(added(store).id)
        except BaseException as error:  # noqa: BLE001 - the test reports it
            errors.append(error)

    def sweep() -> None:
        while not ended.is_set():
            # An empty one may be swept between its making and its locking; its maker makes another.
            if any(size for _, size in Files(settings).sweep()):
                errors.append(AssertionError("something was swept"))

    adders = [threading.Thread(target=add_and_delete) for _ in range(2)]
    sweeper = threading.Thread(target=sweep)
    for thread in (*adders, sweeper):
        thread.start()
    for thread in adders:
        thread.join()
    ended.set()
    sweeper.join()
    assert errors == []
    assert len(kept) == 10
    assert left(settings) == sorted(row.id for row in kept)


def test_a_full_disk_is_told_and_leaves_nothing(
    files: Files, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with files.receive() as incoming:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DiskFullError, match=r"disk of .* is full") as told:
            incoming.write(b"x")
    assert told.value.param == "file"
    assert left(settings) == []
    with pytest.raises(DiskFullError, match="bytes are needed"):
        files.disk.check_space(2**60)
