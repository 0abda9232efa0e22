"""`corral finetune …`: what is asked of the service, what is printed, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from corral import cli
from corral.cli import finetune, finetune_api
from corral.cli.finetune_api import ENDED, LocalJobs, RemoteJobs, follow
from corral.cli.finetune_bar import shown
from corral.cli.finetune_request import HYPERPARAMETERS, MethodName, request_of, settings_of
from corral.errors import BadRequest, Conflict, GateError, NotFound, ToolError, UpstreamError
from corral.files.store import Files
from corral.finetune.schemas import CreateJob, Hyperparameters, Method
from corral.jobs import queue as queue_module
from corral.settings import Settings
from tests.fakes.gguf_file import write_model

runner = CliRunner()
Json = dict[str, Any]
JOB = "ftjob-" + "a" * 24


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, ["finetune", *arguments], env={"COLUMNS": "250"})


def event(number: int, message: str, **more: Any) -> Json:
    kind = {"object": "fine_tuning.job.event", "type": "message", "level": "info", "data": {}}
    return {**kind, "id": f"ftevent-{number}", "created_at": 0, "message": message, **more}


def job(status: str, **more: Any) -> Json:
    return {
        "id": JOB,
        "object": "fine_tuning.job",
        "status": status,
        "model": "tiny",
        "created_at": 0,
        "fine_tuned_model": None,
        "error": None,
        "corral": {"paused": False, "stage": None, "progress": None},
        **more,
    }


class Played(LocalJobs):
    """A service that plays what it was given: at each look, the job, and the events there are by then."""

    pause = 0.0

    def __init__(self, settings: Settings, *looks: tuple[Json | Exception, int]) -> None:
        super().__init__(settings)
        self.looks = list(looks)
        self.requests: list[Json] = []
        self.there: list[Json] = []

    def create(self, request: Json) -> Json:
        self.requests.append(request)
        return job("queued")

    def get(self, job_id: str) -> Json:
        there, events = self.looks.pop(0)
        if isinstance(there, Exception):
            raise there
        self.there = [event(number, f"event {number}") for number in range(1, events + 1)]
        return there

    def events(self, job_id: str, after: str | None) -> Json:
        newest = self.there[::-1]
        ids = [each["id"] for each in newest]
        page = newest[ids.index(after) + 1 :][:3] if after else newest[:3]
        more = bool(page) and page[-1]["id"] != "ftevent-1"
        return {"data": page, "has_more": more, "last_id": page[-1]["id"] if page else None}


@pytest.fixture
def settings(clean_environment: Path) -> Settings:
    return Settings(data_dir=clean_environment)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": []}\n')
    return path


Play = Callable[..., Played]


@pytest.fixture
def play(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Play:
    def start(*looks: tuple[Json | Exception, int]) -> Played:
        played = Played(settings, *looks)
        monkeypatch.setattr(finetune_api, "connect", lambda *_: played)
        return played

    # No worker: the service is played.
    monkeypatch.setattr(Played, "working", RemoteJobs.working)
    return start


def test_the_names_are_those_of_the_service() -> None:
    assert set(HYPERPARAMETERS) == set(Hyperparameters.model_fields)
    assert {name.value for name in MethodName} == set(
        get_args(Method.model_fields["type"].annotation)
    )
    assert ENDED == queue_module.ENDED


def test_options_become_openais_request(play: Play, rows: Path, settings: Settings) -> None:
    played = play((job("succeeded", fine_tuned_model="openai/ft:tiny:local:x:1"), 0))
    done = invoke(
        "create", "--model", "tiny", "--file", str(rows), "--valid", "file-abc",
        "--evaluation", str(rows), "--suffix", "x", "--epochs", "2", "--seed", "5", "--engine", "peft",
        "--set", "rank=8", "--set", "batch_size=4", "--set", "targets=q_proj,v_proj",
        "--set", "evaluate=true", "--metadata", "for=me=too",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout == "ft:tiny:local:x:1\n"
    (request,) = played.requests
    training, evaluation = request["training_file"], request["corral"].pop("evaluation_file")
    assert {Files(settings).get(id).filename for id in (training, evaluation)} == {"rows.jsonl"}
    assert request == {
        "model": "tiny",
        "training_file": training,
        "validation_file": "file-abc",
        "suffix": "x",
        "seed": 5,
        "metadata": {"for": "me=too"},
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
        },
        "corral": {"rank": 8, "targets": "q_proj,v_proj", "evaluate": True, "engine": "peft"},
    }
    parsed = CreateJob.parse(request)
    assert parsed.hyper().n_epochs == 2
    assert parsed.options()[0].targets == ("q_proj", "v_proj")


def test_dpo_puts_beta_where_openai_has_it() -> None:
    request = request_of(
        model="m", method="dpo", suffix=None, seed=None, epochs=None, engine=None,
        options=settings_of(["beta=0.2"]), metadata={},
    )  # fmt: skip
    assert request["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    assert CreateJob.parse({**request, "training_file": "f"}).hyper().beta == 0.2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "rank"), "must be KEY=VALUE"),
        (("--set", "=8"), "must be KEY=VALUE"),
        (("--set", "rank=8", "--set", "rank=9"), "given twice"),
        (("--epochs", "2", "--set", "n_epochs=3"), "given twice"),
        (("--metadata", "x"), "must be KEY=VALUE"),
        (("--valid", "nothing.jsonl"), "nothing.jsonl is no file"),
    ],
)
def test_wrong_options_are_told_before_anything_is_stored(
    play: Play, rows: Path, settings: Settings, more: tuple[str, ...], said: str
) -> None:
    played = play()
    done = invoke("create", "--model", "tiny", "--file", str(rows), *more)
    assert isinstance(done.exception, BadRequest)
    assert said in done.exception.message
    assert played.requests == []
    assert not settings.data_dir.exists()


def test_a_refused_job_leaves_no_file_behind(rows: Path, settings: Settings) -> None:
    done = invoke("create", "--model", "nothing", "--file", str(rows))
    assert isinstance(done.exception, NotFound), done.output
    assert done.exception.param == "model"
    assert Files(settings).list(10) == ([], False)


def test_the_events_come_oldest_first_and_each_once(play: Play) -> None:
    first, second, last = job("queued"), job("running"), job("succeeded")
    played = play((first, 2), (first, 2), (second, 7), (last, 8))
    found = [item.get("message", item.get("status", "")) for item in follow(played, JOB, wait=True)]
    numbered = [f"event {number}" for number in range(1, 9)]
    assert found == [*numbered[:2], "queued", *numbered[2:7], "running", numbered[7], "succeeded"]


def test_a_corral_that_comes_back_is_waited_for(play: Play) -> None:
    gone = UpstreamError("gone")
    played = play((job("running"), 1), (gone, 0), (gone, 0), (job("succeeded"), 2))
    items = list(follow(played, JOB, wait=True))
    assert [item["id"] for item in items if "message" in item] == ["ftevent-1", "ftevent-2"]
    with pytest.raises(UpstreamError):
        list(follow(play((gone, 0)), JOB, wait=True))


@pytest.mark.parametrize(
    ("ended", "error", "said"),
    [
        (job("failed", error={"code": "gate_refused", "message": "m", "param": None}), GateError, "m"),
        (job("failed", error={"code": "invalid_request", "message": "rows.jsonl:4: x", "param": "training_file"}), BadRequest, "rows.jsonl:4"),
        (job("failed", error={"code": "stage_failed", "message": "m", "param": None}), ToolError, "m"),
        (job("cancelled"), ToolError, "was cancelled"),
    ],
)  # fmt: skip
def test_a_job_that_does_not_succeed_ends_the_command_as_it_would(
    play: Play, rows: Path, ended: Json, error: type[Exception], said: str
) -> None:
    play((ended, 1))
    done = invoke("create", "--model", "tiny", "--file", str(rows))
    assert type(done.exception) is error
    assert said in str(done.exception)
    assert "event 1\n" in done.stderr
    assert done.stdout == ""


def test_detached_it_prints_the_id_and_waits_for_nothing(play: Play, rows: Path) -> None:
    play()
    assert invoke("create", "--model", "t", "--file", str(rows), "--detach").stdout == f"{JOB}\n"
    made = invoke("create", "--model", "t", "--file", str(rows), "--detach", "--json").stdout
    assert json.loads(made)["status"] == "queued"


def test_ctrl_c_leaves_the_job_and_says_how_to_end_it(
    play: Play, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "follow", interrupted)
    play()
    done = invoke("create", "--model", "t", "--file", str(rows))
    assert done.exit_code != 0
    assert f"end it with: corral finetune cancel {JOB}" in done.stderr


def test_logs_print_every_event(play: Play) -> None:
    play((job("running"), 4))
    lines = invoke("logs", JOB).stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [f"event {n}" for n in range(1, 5)]
    play((job("running"), 1), (job("failed"), 2))
    parsed = [json.loads(line) for line in invoke("logs", JOB, "-f", "--json").stdout.splitlines()]
    assert [line["id"] for line in parsed] == ["ftevent-1", "ftevent-2"]


def test_the_bar_shows_step_loss_speed_and_eta() -> None:
    progress = {"done": 120, "total": 1280, "unit": "steps", "left": 92.7}
    figures = {"train_loss": 0.12345, "tokens_per_second": 5432.1, "step": 120}
    text = shown(progress, figures)
    assert text == "120/1,280 steps  loss 0.123  5,432 tokens/s  ETA 1:32"
    assert shown({}, {}) == ""
    assert shown({"done": 5, "total": None, "unit": "files"}, {}) == "5 files"


def test_jobs_of_the_data_directory_are_listed_shown_paused_and_cancelled(
    rows: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(settings.data_dir / "models/tiny.gguf")
    done = invoke("create", "--model", "tiny", "--file", str(rows), "--detach", "--suffix", "mine")
    job_id = done.stdout.strip()
    assert job_id.startswith("ftjob-"), done.output
    table = invoke("ls").stdout
    assert job_id in table
    assert "queued" in table
    assert "tiny" in invoke("show", job_id).stdout
    assert json.loads(invoke("show", job_id, "--json").stdout)["user_provided_suffix"] == "mine"
    assert "it goes on with: corral finetune resume" in invoke("pause", job_id).stderr
    assert "paused" in invoke("ls").stdout
    assert "goes on as soon as a worker" in invoke("resume", job_id).stderr
    assert "paused" not in invoke("ls").stdout
    assert invoke("cancel", job_id).stderr == f"{job_id}: cancelled\n"
    ended = invoke("pause", job_id)
    assert isinstance(ended.exception, Conflict)
    unknown = invoke("show", JOB)
    assert isinstance(unknown.exception, NotFound)
