"""/corral/v1/jobs, called in process over the real queue: answers, pages, refusals, streams."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from corral.app import create_app
from corral.errors import ToolError
from corral.jobs.queue import Lease, Note, Queue
from corral.jobs.schemas import event_number
from corral.registry.catalog import Collector
from corral.settings import Settings
from tests.fakes.asgi import Answer, call
from tests.fakes.jobs import KINDS

JOBS = "/corral/v1/jobs"
SPEC = {"stages": [["print=x"]], "note": "ünï"}


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings, Collector().catalog({}), KINDS)


async def post(app: FastAPI, path: str, body: Any) -> Answer:
    headers = {"content-type": "application/json"}
    return await call(app, "POST", path, json.dumps(body).encode(), headers)


async def get(app: FastAPI, path: str) -> Answer:
    path, _, query = path.partition("?")
    return await call(app, "GET", path, query=query)


async def submitted(app: FastAPI) -> str:
    answer = await post(app, JOBS, {"kind": "script", "spec": SPEC})
    assert answer.status == 200, answer.body
    job_id: str = answer.json()["id"]
    return job_id


def claimed(queue: Queue) -> Lease:
    lease = queue.claim("test")
    assert lease is not None
    return lease


async def test_a_job_is_submitted_and_retrieved(app: FastAPI) -> None:
    answer = await post(app, JOBS, {"kind": "script", "spec": SPEC})
    job = answer.json()
    assert job == (await get(app, f"{JOBS}/{job['id']}")).json()
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(job.pop("created_at"), int)
    assert isinstance(job.pop("updated_at"), int)
    assert job.pop("id").startswith("job_")
    assert job == {
        "object": "corral.job",
        "kind": "script",
        "status": "queued",
        "paused": False,
        "owner": "local",
        "started_at": None,
        "finished_at": None,
        "attempts": 0,
        "cancel_requested": False,
        "stage": None,
        "progress": None,
        "spec": SPEC,
        "result": None,
        "error": None,
    }


async def test_a_running_and_a_failed_job_show_where_they_are(app: FastAPI, queue: Queue) -> None:
    job_id = await submitted(app)
    lease = claimed(queue)
    queue.begin_stage(lease, "convert", 1, 3)
    queue.heartbeat(lease, {"done": 1.0, "total": 4.0, "unit": "steps", "text": ""})
    job = (await get(app, f"{JOBS}/{job_id}")).json()
    assert job["stage"] == {"name": "convert", "number": 1, "of": 3}
    assert job["progress"] == {"done": 1.0, "total": 4.0, "unit": "steps", "text": ""}
    queue.fail(lease, ToolError("no", code="gate_refused"))
    job = (await get(app, f"{JOBS}/{job_id}")).json()
    assert job["status"] == "failed"
    assert job["error"] == {"code": "gate_refused", "message": "no", "param": None}
    assert job["finished_at"] >= job["started_at"] >= job["created_at"]


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"kind": "fry", "spec": {}}, "kind", "unknown kind of job `fry`; there are: `script`"),
        ({"spec": {}}, "kind", "Field required"),
        ({"kind": 3}, "kind", "valid string"),
        ({"kind": "x" * 41}, "kind", "at most 40"),
        ({"kind": "script", "spec": []}, "spec", "dictionary"),
        ({"kind": "script", "spec": {"stages": 3}}, "spec.stages", "valid tuple"),
        ({"kind": "script", "spec": {"stages": [[3]]}}, "spec.stages.0.0", "valid string"),
        ({"kind": "script", "spec": {"stage": []}}, "spec.stage", "has `stages`, `note`"),
        ({"kind": "script", "spec": {"note": "x" * 1_100_000}}, "spec", "over 1048576 bytes"),
        ({"kind": "script", "owner": "me"}, "owner", "not permitted"),
        ([], None, "valid dictionary"),
    ],
)
async def test_a_malformed_job_is_refused_by_its_field(
    app: FastAPI, body: Any, param: str | None, said: str
) -> None:
    answer = await post(app, JOBS, body)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert said in answer.error["message"]
    assert (await get(app, JOBS)).json()["data"] == []


async def test_a_body_that_is_no_json_is_refused(app: FastAPI) -> None:
    headers = {"content-type": "application/json"}
    answer = await call(app, "POST", JOBS, b'{"kind": ', headers)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")


async def test_jobs_are_listed_newest_first_in_pages(app: FastAPI) -> None:
    ids = [await submitted(app) for _ in range(3)][::-1]
    page = (await get(app, f"{JOBS}?limit=2")).json()
    assert [job["id"] for job in page["data"]] == ids[:2]
    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[1])
    page = (await get(app, f"{JOBS}?limit=2&after={ids[1]}")).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (ids[2:], False)
    await post(app, f"{JOBS}/{ids[0]}/cancel", {})
    page = (await get(app, f"{JOBS}?status=queued&kind=script")).json()
    assert [job["id"] for job in page["data"]] == ids[1:]
    empty = (await get(app, f"{JOBS}?status=failed")).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=101", 400, "limit"),
        ("limit=many", 400, "limit"),
        ("status=done", 400, "status"),
        ("after=job_x", 404, "after"),
    ],
)
async def test_a_wrong_query_is_refused(app: FastAPI, query: str, status: int, param: str) -> None:
    answer = await get(app, f"{JOBS}?{query}")
    assert (answer.status, answer.error["param"]) == (status, param)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/events?stream=true")],
)
async def test_an_unknown_job_is_not_found(app: FastAPI, method: str, path: str) -> None:
    path, _, query = f"{JOBS}/job_x{path}".partition("?")
    answer = await call(app, method, path, query=query)
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert "there is no job `job_x`" in answer.error["message"]


async def test_cancelling_twice_is_no_error_but_after_the_end_it_is(
    app: FastAPI, queue: Queue
) -> None:
    job_id = await submitted(app)
    for _ in range(2):
        answer = await call(app, "POST", f"{JOBS}/{job_id}/cancel")
        assert (answer.status, answer.json()["status"]) == (200, "cancelled")
    ended = await submitted(app)
    queue.finish(claimed(queue), {})
    answer = await call(app, "POST", f"{JOBS}/{ended}/cancel")
    assert (answer.status, answer.error["code"]) == (409, "job_ended")
    assert answer.headers["x-should-retry"] == "false"


async def test_events_are_newest_first_in_pages(app: FastAPI, queue: Queue) -> None:
    job_id = await submitted(app)
    queue.note(claimed(queue), [Note("warning", "hot"), Note("info", "ünï")])
    page = (await get(app, f"{JOBS}/{job_id}/events?limit=3")).json()
    assert [event["message"] for event in page["data"]] == ["ünï", "hot", "running"]
    assert page["has_more"] is True
    event = page["data"][1]
    assert isinstance(event.pop("created_at"), int)
    assert event_number(event.pop("id")) is not None
    assert event == {
        "object": "corral.job.event",
        "level": "warning",
        "type": "message",
        "message": "hot",
        "data": None,
    }
    page = (await get(app, f"{JOBS}/{job_id}/events?after={page['last_id']}")).json()
    assert ([event["message"] for event in page["data"]], page["has_more"]) == (["queued"], False)


@pytest.mark.parametrize("after", ["3", "jobevent_", "jobevent_x", "jobevent_" + "9" * 30])
async def test_a_wrong_event_id_is_refused(app: FastAPI, after: str) -> None:
    job_id = await submitted(app)
    answer = await get(app, f"{JOBS}/{job_id}/events?after={after}")
    assert (answer.status, answer.error["param"]) == (400, "after")


def items(answer: Answer) -> Iterator[Any]:
    """The data of every event of a stream, parsed; `[DONE]` as it is."""
    for part in answer.body.decode().removesuffix("\n\n").split("\n\n"):
        data = part.splitlines()[-1].removeprefix("data: ")
        yield data if data == "[DONE]" else json.loads(data)


async def test_a_stream_tells_everything_and_ends_with_the_job(app: FastAPI, queue: Queue) -> None:
    job_id = await submitted(app)
    stream = asyncio.create_task(get(app, f"{JOBS}/{job_id}/events?stream=true"))
    lease = await asyncio.to_thread(claimed, queue)
    await asyncio.to_thread(queue.begin_stage, lease, "only", 1, 1)
    await asyncio.to_thread(queue.note, lease, [Note("info", f"m{n}") for n in range(450)])
    await asyncio.to_thread(queue.finish, lease, {"registered": []})
    answer = await asyncio.wait_for(stream, 30)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = list(items(answer))
    said = [i["message"] for i in found[:-1] if i["object"] == "corral.job.event"]
    assert said == [
        "queued", "running", "stage only (1 of 1)", *(f"m{n}" for n in range(450)), "succeeded",
    ]  # fmt: skip
    assert found[-1] == "[DONE]"
    assert (found[-2]["object"], found[-2]["status"]) == ("corral.job", "succeeded")


@pytest.mark.parametrize("header", [True, False])
async def test_a_stream_goes_on_where_it_was_left(app: FastAPI, queue: Queue, header: bool) -> None:
    job_id = await submitted(app)
    queue.note(claimed(queue), [Note("info", "seen"), Note("info", "new")])
    queue.cancel(job_id)
    queue.cancelled(Lease(job_id, 1, "script", {}, 1))
    page = (await get(app, f"{JOBS}/{job_id}/events")).json()["data"]
    (seen,) = [event["id"] for event in page if event["message"] == "seen"]
    path, headers = f"{JOBS}/{job_id}/events", {"last-event-id": seen} if header else {}
    query = "stream=true" + ("" if header else f"&after={seen}")
    answer = await call(app, "GET", path, headers=headers, query=query)
    found = list(items(answer))
    said = [i["message"] for i in found[:-1] if i["object"] == "corral.job.event"]
    assert said == ["new", "cancel requested", "cancelled"]
    assert f"id: {page[0]['id']}\n" in answer.body.decode()


async def test_a_stream_ends_with_an_error_when_corral_stops(app: FastAPI) -> None:
    job_id = await submitted(app)
    stream = asyncio.create_task(get(app, f"{JOBS}/{job_id}/events?stream=true"))
    app.state.gateway.stopping.set()
    found = list(items(await asyncio.wait_for(stream, 30)))
    assert found[-1]["error"]["code"] == "not_ready"
    assert "the job goes on when it runs again" in found[-1]["error"]["message"]


async def test_jobs_need_a_key_like_everything_else(settings: Settings) -> None:
    closed = settings.model_copy(update={"api_keys": Settings(api_keys="k").api_keys})
    app = create_app(closed, Collector().catalog({}), KINDS)
    for method, path in [
        ("GET", ""),
        ("POST", ""),
        ("GET", "/x"),
        ("POST", "/x/cancel"),
        ("GET", "/x/events"),
    ]:
        answer = await call(app, method, JOBS + path)
        assert (answer.status, answer.error["code"]) == (401, "missing_api_key")
    answer = await call(app, "GET", JOBS, headers={"authorization": "Bearer k"})
    assert answer.status == 200
