"""Uploads: parts to a file, and every way in which that ends otherwise."""

import hashlib

import pytest
from sqlalchemy import update

from corral import database
from corral.errors import BadRequest, Conflict, CorralError, NotFound, PayloadTooLarge
from corral.files import tables, uploads
from corral.files.store import Files
from corral.files.uploads import Uploads
from corral.jobs.clock import now
from corral.settings import Settings
from tests.unit.files.conftest import left


@pytest.fixture
def made(settings: Settings, files: Files) -> Uploads:
    return Uploads(settings, files)


def begin(made: Uploads, size: int = 10, seconds: int | None = None) -> str:
    upload = made.create(
        filename="big.jsonl", mime_type="x/y", purpose="batch", bytes=size, seconds=seconds
    )
    assert upload.status == "pending"
    upload_id: str = upload.row["id"]
    return upload_id


def part(made: Uploads, files: Files, upload_id: str, content: bytes) -> str:
    with files.receive() as incoming:
        incoming.write(content)
        part_id: str = made.add_part(upload_id, incoming)["id"]
    return part_id


def test_parts_become_a_file_in_the_order_asked_for(
    made: Uploads, files: Files, settings: Settings
) -> None:
    upload_id = begin(made, seconds=7200)
    second = part(made, files, upload_id, b"world")
    first = part(made, files, upload_id, b"hello")
    part(made, files, upload_id, b"sent twice")
    md5 = hashlib.md5(b"helloworld").hexdigest()
    done = made.complete(upload_id, [first, second], md5.upper())
    assert done.status == "completed"
    assert done.file is not None
    assert files.path(done.file.id).read_bytes() == b"helloworld"
    assert done.file.sha256 == hashlib.sha256(b"helloworld").hexdigest()
    assert (done.file.filename, done.file.purpose) == ("big.jsonl", "batch")
    assert done.file.expires_at == pytest.approx(done.file.created + 7200, abs=1)
    assert left(settings) == [done.file.id]
    assert made.complete(upload_id, [first, second], md5).file == done.file
    files.delete(done.file.id)
    assert made.get(upload_id).file is None


@pytest.mark.parametrize(
    ("parts", "md5", "param", "said"),
    [
        (["first"], None, "part_ids", "5 bytes together, the upload was to have 10"),
        (["first", "first"], None, "part_ids", "once only"),
        (["first", "part_x"], None, "part_ids", "no part `part_x`"),
        (["first", "second"], "0" * 32, "md5", "have the md5 fc5e038d38a57032085441e7fe7010b0"),
    ],
)
def test_parts_that_are_not_the_file_are_refused_and_may_be_mended(
    made: Uploads,
    files: Files,
    settings: Settings,
    parts: list[str],
    md5: str | None,
    param: str,
    said: str,
) -> None:
    upload_id = begin(made)
    ids = {name: part(made, files, upload_id, name[:5].encode()) for name in ("first", "second")}
    ids |= {"first": part(made, files, upload_id, b"hello")}
    ids |= {"second": part(made, files, upload_id, b"world")}
    with pytest.raises(BadRequest, match=said) as told:
        made.complete(upload_id, [ids.get(name, name) for name in parts], md5)
    assert told.value.param == param
    assert len(left(settings)) == 4
    assert made.complete(upload_id, [ids["first"], ids["second"]], None).status == "completed"


def test_a_part_of_another_upload_is_unknown(made: Uploads, files: Files) -> None:
    other = part(made, files, begin(made), b"0123456789")
    with pytest.raises(BadRequest, match="has no part"):
        made.complete(begin(made), [other], None)


def test_a_cancelled_upload_is_over(made: Uploads, files: Files, settings: Settings) -> None:
    upload_id = begin(made)
    part_id = part(made, files, upload_id, b"0123456789")
    assert made.cancel(upload_id).status == "cancelled"
    assert left(settings) == []
    assert made.cancel(upload_id).status == "cancelled"
    for action in (
        lambda: part(made, files, upload_id, b"x"),
        lambda: made.complete(upload_id, [part_id], None),
        lambda: made.check_open(upload_id),
    ):
        with pytest.raises(Conflict, match="is cancelled") as told:
            action()
        assert told.value.param == "upload_id"
    assert left(settings) == []


def test_a_completed_upload_takes_no_part_and_no_cancel(made: Uploads, files: Files) -> None:
    upload_id = begin(made, size=1)
    made.complete(upload_id, [part(made, files, upload_id, b"x")], None)
    with pytest.raises(Conflict, match="is completed"):
        made.cancel(upload_id)
    with pytest.raises(Conflict, match="is completed"):
        part(made, files, upload_id, b"x")


def test_an_upload_lives_an_hour(made: Uploads, files: Files, settings: Settings) -> None:
    upload_id = begin(made)
    row = made.get(upload_id).row
    assert row["expires_at"] == pytest.approx(row["created"] + 3600, abs=1)
    part_id = part(made, files, upload_id, b"0123456789")
    _age(settings, upload_id, expires_at=now() - 1)
    assert made.get(upload_id).status == "expired"
    for action in (
        lambda: part(made, files, upload_id, b"x"),
        lambda: made.complete(upload_id, [part_id], None),
        lambda: made.cancel(upload_id),
    ):
        with pytest.raises(Conflict, match="is expired"):
            action()
    files.sweep()
    assert left(settings) == []
    assert made.get(upload_id).status == "expired"
    _age(settings, upload_id, created=now() - 90_000)
    files.sweep()
    with pytest.raises(NotFound):
        made.get(upload_id)


def test_one_that_is_cancelled_while_it_is_joined_becomes_no_file(
    made: Uploads, files: Files, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = begin(made)
    part_id = part(made, files, upload_id, b"0123456789")
    join = made._join

    def join_then_cancel(*arguments: object) -> str:
        md5 = join(*arguments)  # type: ignore[arg-type]
        Uploads(settings, files).cancel(upload_id)
        return md5

    monkeypatch.setattr(made, "_join", join_then_cancel)
    with pytest.raises(Conflict, match="no longer pending"):
        made.complete(upload_id, [part_id], None)
    assert left(settings) == []
    assert files.list(10) == ([], False)


def test_the_parts_have_a_limit_together(
    made: Uploads, files: Files, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_MAX_BYTES", 15)
    upload_id = begin(made)
    part(made, files, upload_id, b"0123456789")
    with pytest.raises(PayloadTooLarge, match="over 15 bytes together") as told:
        part(made, files, upload_id, b"012345")
    assert told.value.param == "data"
    assert len(left(settings)) == 1


def test_what_is_no_upload(made: Uploads, files: Files) -> None:
    for action in (
        lambda: made.get("upload_x"),
        lambda: made.cancel("upload_x"),
        lambda: made.complete("upload_x", ["part_y"], None),
        lambda: part(made, files, "upload_x", b"x"),
    ):
        with pytest.raises(NotFound, match="no upload `upload_x`") as told:
            action()
        assert told.value.param == "upload_id"


def test_no_upload_begins_that_the_disk_cannot_hold(made: Uploads) -> None:
    with pytest.raises(CorralError, match="disk of"):
        begin(made, size=2**60)


def _age(settings: Settings, upload_id: str, **columns: object) -> None:
    with database.writing(database.ready(settings)) as connection:
        changed = update(tables.uploads).where(tables.uploads.c.id == upload_id)
        connection.execute(changed.values(**columns))
