"""/v1/files and /v1/uploads over ASGI with the real SDK, and with what no SDK would send."""

import asyncio
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai import APIStatusError, AsyncOpenAI, BadRequestError, ConflictError, NotFoundError
from openai.types import FileObject

from corral import database
from corral.errors import DiskFullError, StoreError
from corral.files.disk import FileDisk
from corral.files.multipart import OVERHEAD_BYTES
from corral.files.store import Files
from corral.files.sweeper import sweeping
from corral.files.uploads import PART_MAX_BYTES
from corral.jobs.queue import Queue
from corral.settings import Settings
from tests.fakes.asgi import Answer, call
from tests.unit.files.conftest import left

ROWS = b'{"messages": []}\n' * 100
BOUNDARY = "xxBOUNDARYxx"
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(head: str, body: bytes) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: {head}\r\n\r\n".encode() + body + b"\r\n"


def field(name: str, value: str) -> bytes:
    return part(f'form-data; name="{name}"', value.encode())


def file(content: bytes, name: str = "file", filename: str = "a.jsonl") -> bytes:
    return part(f'form-data; name="{name}"; filename="{filename}"', content)


END = f"--{BOUNDARY}--\r\n".encode()
PURPOSE = field("purpose", "fine-tune")


async def post(app: FastAPI, body: Any, path: str = "/v1/files") -> Answer:
    return await call(app, "POST", path, body, MULTIPART)


async def test_a_file_goes_round(client: AsyncOpenAI, settings: Settings) -> None:
    made = await client.files.create(file=("rows ünï.jsonl", ROWS), purpose="fine-tune")
    assert (made.object, made.bytes, made.filename) == ("file", len(ROWS), "rows ünï.jsonl")
    assert (made.purpose, made.status, made.expires_at) == ("fine-tune", "processed", None)
    assert made.model_extra == {"sha256": hashlib.sha256(ROWS).hexdigest()}
    assert await client.files.retrieve(made.id) == made
    assert await client.files.wait_for_processing(made.id) == made
    content = await client.files.content(made.id)
    assert content.content == ROWS
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert content.response.headers["etag"] == f'"{hashlib.sha256(ROWS).hexdigest()}"'
    assert "rows%20%C3%BCn%C3%AF.jsonl" in content.response.headers["content-disposition"]
    deleted = await client.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    with pytest.raises(NotFoundError) as told:
        await client.files.retrieve(made.id)
    assert (told.value.param, told.value.code) == ("file_id", "not_found")
    assert left(settings) == []


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data"])
async def test_every_purpose_is_taken_and_listed(client: AsyncOpenAI, purpose: Any) -> None:
    made = await client.files.create(file=b"x", purpose=purpose)
    await client.files.create(file=b"x", purpose="batch" if purpose != "batch" else "vision")
    listed = [found async for found in client.files.list(purpose=purpose)]
    assert listed == [made]


async def test_files_for_evals_are_taken_too(plain_client: AsyncOpenAI) -> None:
    """The SDK's type of the answer lacks this purpose, though its requests have it."""
    made = await plain_client.files.create(file=b"x", purpose="evals")
    assert made.purpose == "evals"  # type: ignore[comparison-overlap]
    assert [found.id async for found in plain_client.files.list(purpose="evals")] == [made.id]


async def test_every_way_to_name_a_file(client: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "some rows.jsonl"
    path.write_bytes(ROWS)
    with path.open("rb") as opened:
        sent: list[Any] = [path, opened, io.BytesIO(ROWS), ("x.bin", ROWS, "application/x")]
        names = [(await client.files.create(file=s, purpose="batch")).filename for s in sent]
    assert names == ["some rows.jsonl", "some rows.jsonl", "upload", "x.bin"]


async def test_pages(client: AsyncOpenAI, app: FastAPI) -> None:
    empty = (await call(app, "GET", "/v1/files")).json()
    nothing = {"first_id": None, "last_id": None, "has_more": False}
    assert empty == {"object": "list", "data": [], **nothing}
    ids = [(await client.files.create(file=b"x", purpose="batch")).id for _ in range(5)]
    page = await client.files.list(limit=2)
    assert ([found.id for found in page.data], page.has_more) == (ids[:2:-1], True)
    assert [found.id async for found in page] == ids[::-1]
    raw = (await call(app, "GET", "/v1/files", query="limit=2")).json()
    assert (raw["first_id"], raw["last_id"], raw["has_more"]) == (ids[4], ids[3], True)
    assert [found.id async for found in client.files.list(limit=2, order="asc")] == ids
    async for found in client.files.list(limit=2):
        await client.files.delete(found.id)
    assert (await client.files.list()).data == []


async def test_a_file_expires_when_it_was_told_to(client: AsyncOpenAI) -> None:
    made = await client.files.create(
        file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == 3600


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"purpose": "fine_tune"}, "purpose"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at", "seconds": 2592001}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor"),
        ({"file": b""}, "file"),
        ({"file": ("x" * 256, b"x")}, "file"),
    ],
)
async def test_a_wrong_field_is_named(
    client: AsyncOpenAI, settings: Settings, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as told:
        await client.files.create(**{"file": ROWS, "purpose": "batch", **more})
    assert told.value.param == param
    assert told.value.type == "invalid_request_error"
    assert left(settings) == []


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=10001", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("order=up", 400, "order"),
        ("purpose=nothing", 400, "purpose"),
        ("after=file-x", 404, "after"),
    ],
)
async def test_a_wrong_page_is_named(app: FastAPI, query: str, status: int, param: str) -> None:
    answer = await call(app, "GET", "/v1/files", query=query)
    assert (answer.status, answer.error["param"]) == (status, param)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "ends too early"),
        (END, "required"),
        (PURPOSE + END, "required"),
        (file(b"x") + PURPOSE, "ends too early"),
        (file(b"x")[:-3], "ends too early"),
        (b"junk", "malformed"),
        (file(b"x").replace(b"\r\n\r\n", b"\r\n"), ""),
        (field("file", "x") + PURPOSE + END, "must be a file"),
        (file(b"x") + file(b"y") + PURPOSE + END, "once only"),
        (file(b"x") + field("a", "b") * 60 + END, "over 50 fields"),
        (file(b"") + PURPOSE + END, "empty"),
        (file(b"x", filename="") + PURPOSE + END, "printable"),
    ],
)
async def test_a_malformed_form_is_told(
    app: FastAPI, settings: Settings, body: bytes, said: str
) -> None:
    answer = await post(app, body)
    assert (answer.status, answer.error["param"]) == (400, "file"), answer.body
    assert said in answer.error["message"]
    assert left(settings) == []


async def test_a_form_in_single_bytes_is_the_same(app: FastAPI, settings: Settings) -> None:
    body = field("other", "\r\n--") + PURPOSE + file(b"a\r\n--xxBOUNDARYx\r\n\r\n-") + END
    answer = await post(app, [body[i : i + 1] for i in range(len(body))])
    assert answer.status == 200, answer.body
    made = FileObject.model_validate(answer.json(), strict=True)
    assert Files(settings).path(made.id).read_bytes() == b"a\r\n--xxBOUNDARYx\r\n\r\n-"


@pytest.mark.parametrize("kind", ["application/json", "", "multipart/form-data", "text/plain; x"])
async def test_another_kind_of_body_is_told(app: FastAPI, kind: str) -> None:
    answer = await call(app, "POST", "/v1/files", b"{}", {"content-type": kind})
    assert (answer.status, answer.error["param"]) == (400, "file")
    assert "multipart/form-data" in answer.error["message"]


async def test_a_long_field_is_named(app: FastAPI) -> None:
    answer = await post(app, field("purpose", "x" * 70_000) + file(b"x") + END)
    assert (answer.status, answer.error["param"]) == (400, "purpose")


async def test_a_file_over_the_limit_is_refused(app: FastAPI, settings: Settings) -> None:
    limit = settings.files_max_bytes
    assert (await post(app, PURPOSE + file(b"x" * limit) + END)).status == 200
    little = await post(app, PURPOSE + file(b"x" * (limit + 1)) + END)
    assert (little.status, little.error["param"]) == (413, "file")
    much = PURPOSE + file(b"x" * (limit + OVERHEAD_BYTES + 1)) + END
    for body in (much, [much[:1000], much[1000:]]):
        answer = await post(app, body)
        assert (answer.status, answer.error["param"]) == (413, "file")
        assert "`files_max_bytes`" in answer.error["message"]
        assert "/v1/uploads" in answer.error["message"]
    assert len(left(settings)) == 1


async def test_a_file_may_be_larger_than_other_bodies(settings: Settings, tmp_path: Path) -> None:
    from corral.app import create_app
    from corral.registry.catalog import Collector

    small = settings.model_copy(update={"max_body_bytes": 1024})
    app = create_app(small, Collector().catalog({}))
    assert (await post(app, PURPOSE + file(b"x" * 5000) + END)).status == 200
    assert (await post(app, b"x" * 5000, "/v1/embeddings")).status == 413


async def test_a_body_that_is_cut_leaves_nothing(
    app: FastAPI, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def cut() -> Iterator[bytes]:
        yield PURPOSE
        yield file(b"x" * 100_000)[:-10]
        seen.extend(left(settings))

    answer = await call(app, "POST", "/v1/files", cut(), MULTIPART, goes_away=True)
    assert answer.status == 400
    assert len(seen) == 1
    assert left(settings) == []
    assert [r for r in caplog.records if r.exc_info] == []


async def test_no_room_on_the_disk_is_told(
    client: AsyncOpenAI, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FileDisk, needed: int) -> None:
        raise DiskFullError("the disk is full", param="file")

    monkeypatch.setattr(FileDisk, "check_space", full)
    with pytest.raises(APIStatusError) as told:
        await client.files.create(file=b"x", purpose="batch")
    assert (told.value.status_code, told.value.param) == (507, "file")
    assert left(settings) == []


async def test_a_file_in_use_is_a_conflict(client: AsyncOpenAI, settings: Settings) -> None:
    made = await client.files.create(file=ROWS, purpose="fine-tune")
    Queue(database.ready(settings)).submit("finetune", {"training_file": made.id})
    with pytest.raises(ConflictError) as told:
        await client.files.delete(made.id)
    assert (told.value.param, told.value.code) == ("file_id", "file_in_use")


async def test_routes_without_v1_are_the_same(app: FastAPI) -> None:
    made = (await call(app, "POST", "/files", PURPOSE + file(b"x") + END, MULTIPART)).json()
    assert (await call(app, "GET", f"/files/{made['id']}")).json() == made
    assert (await call(app, "GET", f"/files/{made['id']}/content")).body == b"x"


@pytest.mark.parametrize("id", ["file-x", "..%2f..%2fcorral.db", "%00", "lock", "tmp"])
async def test_an_id_is_never_a_path(app: FastAPI, id: str) -> None:
    await post(app, PURPOSE + file(b"x") + END)
    for path in (f"/v1/files/{id}", f"/v1/files/{id}/content"):
        assert (await call(app, "GET", path)).status == 404


# ---- uploads -----------------------------------------------------------------------------------


async def begin(client: AsyncOpenAI, size: int) -> str:
    upload = await client.uploads.create(
        bytes=size, filename="b", mime_type="x", purpose="fine-tune"
    )
    assert (upload.status, upload.file, upload.object) == ("pending", None, "upload")
    assert upload.expires_at - upload.created_at == 3600
    return upload.id


async def test_an_upload_in_parts(client: AsyncOpenAI, settings: Settings) -> None:
    upload_id = await begin(client, len(ROWS))
    half = len(ROWS) // 2
    parts = [
        await client.uploads.parts.create(upload_id, data=data)
        for data in (ROWS[:half], ROWS[half:])
    ]
    assert parts[0].upload_id == upload_id
    done = await client.uploads.complete(
        upload_id, part_ids=[p.id for p in parts], md5=hashlib.md5(ROWS).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (await client.files.content(done.file.id)).content == ROWS
    assert left(settings) == [done.file.id]


async def test_the_sdks_own_chunks(client: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    done = await client.uploads.upload_file_chunked(
        file=path, mime_type="application/jsonl", purpose="batch", part_size=700
    )
    assert done.file is not None
    assert (done.file.filename, done.file.bytes) == ("rows.jsonl", len(ROWS))


async def test_an_upload_is_cancelled(client: AsyncOpenAI, settings: Settings) -> None:
    upload_id = await begin(client, 5)
    await client.uploads.parts.create(upload_id, data=b"hello")
    assert (await client.uploads.cancel(upload_id)).status == "cancelled"
    with pytest.raises(ConflictError) as told:
        await client.uploads.parts.create(upload_id, data=b"hello")
    assert told.value.param == "upload_id"
    assert left(settings) == []


async def test_a_wrong_upload_is_named(client: AsyncOpenAI) -> None:
    good: dict[str, Any] = {"bytes": 5, "filename": "a", "mime_type": "x", "purpose": "batch"}
    wrong: dict[str, list[Any]] = {
        "bytes": [0, -1, 8 * 1024**3 + 1, "x", None, 1.5],
        "filename": ["", "a\0", "x" * 256, 5],
        "mime_type": ["", 5],
        "purpose": ["batch_output", "", None],
    }
    for param, values in wrong.items():
        for value in values:
            with pytest.raises(BadRequestError) as told:
                await client.uploads.create(**{**good, param: value})
            assert told.value.param == param, value
    with pytest.raises(NotFoundError) as unknown:
        await client.uploads.cancel("upload_x")
    assert unknown.value.param == "upload_id"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "part_ids"),
        ({"part_ids": []}, "part_ids"),
        ({"part_ids": "x"}, "part_ids"),
        ({"part_ids": [5]}, "part_ids.0"),
        ({"part_ids": ["part_x"]}, "part_ids"),
        ({"part_ids": ["part_x"], "md5": "short"}, "md5"),
    ],
)
async def test_a_wrong_completion_is_named(
    client: AsyncOpenAI, app: FastAPI, body: Any, param: str
) -> None:
    path = f"/v1/uploads/{await begin(client, 5)}/complete"
    sent = {"content-type": "application/json"}
    answer = await call(app, "POST", path, json.dumps(body).encode(), sent)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_a_part_over_64_mib_is_refused_unread(client: AsyncOpenAI, app: FastAPI) -> None:
    path = f"/v1/uploads/{await begin(client, 5)}/parts"
    long = str(PART_MAX_BYTES + OVERHEAD_BYTES + 1)
    answer = await call(app, "POST", path, b"", {**MULTIPART, "content-length": long})
    assert (answer.status, answer.error["param"]) == (413, "data")
    empty = await post(app, file(b"", "data") + END, path)
    assert (empty.status, empty.error["param"]) == (400, "data")


async def test_large_files_arrive_whole(settings: Settings, files: Files) -> None:
    """Over the size of a block, in chunks that no boundary cares for."""
    from corral.app import create_app
    from corral.registry.catalog import Collector

    app = create_app(
        settings.model_copy(update={"files_max_bytes": 2**24}), Collector().catalog({})
    )
    content = bytes(range(256)) * 12_345
    body = PURPOSE + file(content) + END
    answer = await post(app, [body[i : i + 65_521] for i in range(0, len(body), 65_521)])
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert files.path(answer.json()["id"]).read_bytes() == content


async def test_an_application_sweeps_and_lives_without(
    settings: Settings, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    with files.receive() as incoming:
        incoming.write(b"x")
        kept = files.keep(incoming, filename="a", purpose="batch")
    orphan = settings.data_dir / "files" / ("file-" + "b" * 24)
    orphan.write_bytes(b"left")
    async with sweeping(files, every=0.01):
        while orphan.exists():
            await asyncio.sleep(0.01)
    assert left(settings) == [kept.id]

    def unwritable() -> None:
        raise StoreError("the folder is read-only")

    files.sweep = unwritable  # type: ignore[assignment,method-assign]
    async with sweeping(files, every=0.01):
        while "the folder is read-only" not in caplog.text:
            await asyncio.sleep(0.01)
