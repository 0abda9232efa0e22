"""`corral jobs` on the local data directory, and `follow` against a recorded Corral."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corral import cli, database
from corral.cli import follow as follow_module
from corral.cli.jobs import StatusName
from corral.cli.jobs_api import ENDED, RemoteJobs
from corral.errors import BadRequest, CorralError, GateError, ToolError, UpstreamError
from corral.jobs import queue as queue_module
from corral.jobs.queue import Queue
from corral.settings import Settings

runner = CliRunner()


@pytest.fixture
def queue(clean_environment: Path) -> Queue:
    return Queue(database.ready(Settings(data_dir=clean_environment)))


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, ["jobs", *arguments], env={"COLUMNS": "200"})


def test_the_states_are_those_of_the_queue() -> None:
    assert {state.value for state in StatusName} == set(queue_module.Status.__args__)  # type: ignore[attr-defined]
    assert ENDED == queue_module.ENDED


def test_jobs_are_listed_shown_followed_and_cancelled(queue: Queue) -> None:
    first, second = (queue.submit("script", {"n": n})["id"] for n in (1, 2))
    lease = queue.claim("test")
    assert lease is not None
    queue.begin_stage(lease, "convert", 1, 3)
    queue.heartbeat(lease, {"done": 1, "total": 4, "unit": "steps", "text": ""})
    table = invoke("ls").stdout
    assert table.index(second) < table.index(first)
    assert "convert 1/3" in table
    assert "25%" in table
    listed = json.loads(invoke("ls", "--json", "--status", "queued").stdout)
    assert [job["id"] for job in listed] == [second]
    assert json.loads(invoke("show", first, "--json").stdout)["spec"] == {"n": 1}
    assert 'spec             {"n": 1}' in invoke("show", first).stdout
    assert invoke("logs", first).stdout.splitlines()[-1].endswith("stage convert (1 of 3)")
    done = invoke("cancel", second)
    assert (done.stdout, done.stderr) == ("", f"{second}: cancelled\n")
    assert "cancel requested; its worker ends it within 5 s" in invoke("cancel", first).stderr
    queue.cancelled(lease)
    lines = [json.loads(line) for line in invoke("logs", first, "-f", "--json").stdout.splitlines()]
    assert lines[-1]["status"] == "cancelled"
    assert [line["message"] for line in lines[:2]] == ["queued", "running"]


@pytest.mark.parametrize("verb", ["show", "logs", "cancel"])
def test_an_unknown_job_is_told(queue: Queue, verb: str) -> None:
    done = invoke(verb, "job_x")
    assert isinstance(done.exception, CorralError)
    assert "there is no job `job_x`" in done.exception.message


def test_a_corral_that_is_not_there_is_told_with_what_to_do() -> None:
    done = invoke("ls", "--url", "http://127.0.0.1:9")
    assert isinstance(done.exception, UpstreamError)
    assert "no Corral answers at http://127.0.0.1:9: " in done.exception.message
    assert "start it with `corral serve`" in done.exception.message


class Recorded(RemoteJobs):
    """A Corral that answers what it was given."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self._items = items

    def submit(self, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"id": "job_1"}

    def follow(self, job_id: str, *, wait: bool) -> Iterator[dict[str, Any]]:
        yield from self._items


def job(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "job_1",
        "object": "corral.job",
        "status": status,
        "stage": None,
        "progress": {"done": 1, "total": 2, "unit": "bytes", "text": "x"},
        "result": None,
        "error": None,
        **more,
    }


def event(type: str, message: str, level: str = "info") -> dict[str, Any]:
    return {"object": "corral.job.event", "type": type, "message": message, "level": level}


def followed(monkeypatch: pytest.MonkeyPatch, *items: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(follow_module, "RemoteJobs", lambda *_: Recorded(list(items)))
    return follow_module.follow("http://x", "pull", {"a": 1})


def test_following_gives_the_result_and_shows_the_messages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"registered": ["m"], "result": {"n": 1}}
    found = followed(
        monkeypatch,
        event("status", "running"),
        job("running"),
        event("message", "half way"),
        event("message", "hot", "warning"),
        event("status", "stage x was killed; trying again", "warning"),
        job("succeeded", result=result),
    )
    assert found == result
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "job job_1",
        "half way",
        "warning: hot",
        "warning: stage x was killed; trying again",
    ]


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        ("gate_refused", GateError, 3),
        ("invalid_request", BadRequest, 2),
        ("stage_failed", ToolError, 1),
    ],
)
def test_a_failed_job_fails_as_the_verb_would_have_here(
    monkeypatch: pytest.MonkeyPatch, code: str, kind: type[CorralError], exit_code: int
) -> None:
    error = {"code": code, "message": "why", "param": None}
    with pytest.raises(kind, match="why") as told:
        followed(monkeypatch, job("failed", error=error))
    assert told.value.exit_code == exit_code


def test_a_cancelled_job_is_an_error_for_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match="job_1 was cancelled"):
        followed(monkeypatch, job("cancelled"))
