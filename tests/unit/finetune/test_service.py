"""Jobs as OpenAI's objects: lists, status words, events, pausing, deleting; no training."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from corral.errors import BadRequest, Conflict, ModelNotFound, NotFound, PermissionDenied
from corral.finetune import kind, service
from corral.finetune.service import FineTuning
from corral.jobs.queue import Lease, Note, Queue
from corral.settings import Settings
from tests.unit.finetune.conftest import ROW, add

RESULT = {
    "registered": ["ft:corral-tiny:local::0123abcd"],
    "result": {
        "fine_tuned_model": "ft:corral-tiny:local::0123abcd",
        "result_files": ["file-1"],
        "trained_tokens": 1234,
        "n_epochs": 3.0,
        "training": {"steps": 9},
        "evaluation": None,
        "checkpoints": [
            {
                "id": f"ftckpt_{step}",
                "name": f"ft:corral-tiny:local::0123abcd:ckpt-step-{step}",
                "step": step,
                "metrics": {"step": step, "train_loss": 0.5},
            }
            for step in (9, 6, 3)
        ],
    },
}


def create(jobs: FineTuning, file_id: str, **more: Any) -> dict[str, Any]:
    return jobs.create({"model": "corral-tiny", "training_file": file_id, **more})


def claim(queue: Queue) -> Lease:
    lease = queue.claim("w")
    assert lease is not None
    return lease


def strict(job: dict[str, Any]) -> FineTuningJob:
    """The job as the SDK's own type; raises what is wrong with it."""
    return FineTuningJob.model_validate(job)


def test_a_job_goes_through_openais_words(jobs: FineTuning, queue: Queue, file_id: str) -> None:
    job = create(jobs, file_id, suffix="a b", seed=5)
    assert strict(job).status == "queued"
    assert job["user_provided_suffix"] == "a-b"
    lease = claim(queue)
    assert strict(jobs.get(job["id"])).status == "validating_files"
    queue.begin_stage(lease, "validate", 1, 7)
    assert jobs.get(job["id"])["status"] == "validating_files"
    queue.begin_stage(lease, "train", 3, 7)
    queue.heartbeat(lease, {"done": 1, "total": 9, "unit": "steps", "text": "training"})
    assert jobs.get(job["id"])["estimated_finish"] is None
    progress = {"done": 1, "total": 9, "unit": "steps", "text": "training", "left": 100.0}
    queue.heartbeat(lease, progress)
    running = jobs.get(job["id"])
    assert strict(running).status == "running"
    assert 100 <= running["estimated_finish"] - running["created_at"] < 200
    queue.begin_stage(lease, "parity", 4, 7)
    assert jobs.get(job["id"])["estimated_finish"] is not None
    queue.finish(lease, RESULT)
    done = strict(jobs.get(job["id"]))
    assert (done.status, done.trained_tokens, done.result_files) == ("succeeded", 1234, ["file-1"])
    assert done.fine_tuned_model == "openai/ft:corral-tiny:local::0123abcd"
    assert done.hyperparameters.n_epochs == 3
    assert done.estimated_finish is None


def test_a_failed_job_says_why(jobs: FineTuning, queue: Queue, file_id: str) -> None:
    job = create(jobs, file_id)
    queue.fail(claim(queue), BadRequest("line 3 is wrong", param="training_file"))
    failed = strict(jobs.get(job["id"]))
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.message, failed.error.param) == ("line 3 is wrong", "training_file")
    assert failed.error.code == "invalid_request"
    last = jobs.events(job["id"], 1)["data"][0]
    assert (last["level"], last["message"]) == ("error", "line 3 is wrong")


def test_jobs_are_listed_newest_first_in_pages(jobs: FineTuning, file_id: str) -> None:
    ids = [create(jobs, file_id)["id"] for _ in range(5)][::-1]
    first = jobs.list(2)
    assert [job["id"] for job in first["data"]] == ids[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[0], ids[1])
    last = jobs.list(3, after=ids[1])
    assert [job["id"] for job in last["data"]] == ids[2:]
    assert last["has_more"] is False
    assert jobs.list(2, after=ids[-1])["data"] == []


def test_the_list_may_be_filtered_by_metadata(jobs: FineTuning, file_id: str) -> None:
    one = create(jobs, file_id, metadata={"team": "a", "x[1]": "é"})["id"]
    two = create(jobs, file_id, metadata={"team": "a"})["id"]
    bare = create(jobs, file_id)["id"]

    def found(**metadata: str) -> list[str]:
        return [job["id"] for job in jobs.list(metadata=metadata)["data"]]

    assert found(team="a") == [two, one]
    assert found(**{"team": "a", "x[1]": "é"}) == [one]
    assert found(team="b") == []
    assert found() == [bare]
    page = jobs.list(1, metadata={"team": "a"})
    assert (page["has_more"], page["last_id"]) == (True, two)


def test_other_kinds_of_jobs_are_not_ours(jobs: FineTuning, queue: Queue, file_id: str) -> None:
    other: str = queue.submit("quantize", {})["id"].replace("job_", "ftjob-")
    with pytest.raises(NotFound):
        jobs.get(other)
    assert jobs.list()["data"] == []


def test_events_come_newest_first_and_are_openais(
    jobs: FineTuning, queue: Queue, file_id: str
) -> None:
    job = create(jobs, file_id)
    lease = claim(queue)
    queue.begin_stage(lease, "train", 3, 7)
    figures = {"step": 1, "train_loss": 2.5}
    queue.note(lease, [Note("warning", "hot"), Note("info", "Step 1/2", figures)])
    page = jobs.events(job["id"], 3)
    events = [FineTuningJobEvent.model_validate(event) for event in page["data"]]
    assert [e.message for e in events] == ["Step 1/2", "hot", "Training"]
    assert (events[0].type, events[0].data) == ("metrics", figures)
    assert (events[1].type, events[1].level) == ("message", "warn")
    assert page["has_more"] is True
    rest = jobs.events(job["id"], 20, after=page["last_id"])
    assert [e["message"] for e in rest["data"]] == [
        "Fine-tuning job started",
        f"Created fine-tuning job: {job['id']}",
    ]
    assert rest["has_more"] is False
    with pytest.raises(BadRequest) as caught:
        jobs.events(job["id"], 20, after="jobevent_1")
    assert caught.value.param == "after"


def test_checkpoints_come_newest_first_in_pages(
    jobs: FineTuning, queue: Queue, file_id: str
) -> None:
    job = create(jobs, file_id)
    assert jobs.checkpoints(job["id"])["data"] == []
    queue.finish(claim(queue), RESULT)
    page = jobs.checkpoints(job["id"], 2)
    found = [FineTuningJobCheckpoint.model_validate(each) for each in page["data"]]
    assert [each.step_number for each in found] == [9, 6]
    assert found[0].fine_tuned_model_checkpoint.endswith(":ckpt-step-9")
    assert page["has_more"] is True
    rest = jobs.checkpoints(job["id"], 2, after=page["last_id"])
    assert ([each["step_number"] for each in rest["data"]], rest["has_more"]) == ([3], False)
    with pytest.raises(BadRequest):
        jobs.checkpoints(job["id"], 2, after="ftckpt_none")


def test_a_paused_job_is_queued_and_nobody_takes_it(
    jobs: FineTuning, queue: Queue, file_id: str
) -> None:
    job = create(jobs, file_id)
    paused = jobs.pause(job["id"])
    assert (strict(paused).status, paused["corral"]["paused"]) == ("queued", True)
    assert jobs.pause(job["id"])["corral"]["paused"] is True
    assert queue.claim("w") is None
    assert jobs.events(job["id"], 1)["data"][0]["message"].startswith("Fine-tuning job paused")
    assert jobs.resume(job["id"])["corral"]["paused"] is False
    lease = claim(queue)
    jobs.pause(job["id"])
    assert jobs.get(job["id"])["status"] == "queued"
    assert queue.heartbeat(lease) == "pause"
    queue.give_back(lease)
    assert queue.claim("w") is None
    jobs.resume(job["id"])
    queue.finish(claim(queue), RESULT)
    for verb in (jobs.pause, jobs.resume, jobs.cancel):
        with pytest.raises(Conflict):
            verb(job["id"])


def test_a_paused_job_can_be_cancelled(jobs: FineTuning, file_id: str) -> None:
    job = create(jobs, file_id)
    jobs.pause(job["id"])
    assert jobs.cancel(job["id"])["status"] == "cancelled"
    with pytest.raises(Conflict):
        jobs.resume(job["id"])


def test_a_file_of_another_purpose_is_refused(
    jobs: FineTuning, settings: Settings, tmp_path: Path
) -> None:
    wrong = add(settings, tmp_path, ROW, "assistants")
    with pytest.raises(BadRequest, match="purpose `assistants`") as caught:
        create(jobs, wrong)
    assert caught.value.param == "training_file"


def test_an_alias_of_an_adapter_means_its_base(jobs: FineTuning, file_id: str) -> None:
    job = jobs.create({"model": "gpt-4o-mini", "training_file": file_id})
    assert job["model"] == job["corral"]["base"] == "corral-tiny"


def test_only_fine_tuned_models_can_be_deleted(jobs: FineTuning) -> None:
    with pytest.raises(PermissionDenied, match="corral models rm"):
        jobs.delete_model("corral-tiny")
    with pytest.raises(ModelNotFound):
        jobs.delete_model("openai/ft:corral-tiny:local::nope")


def test_wandb_is_asked_for_in_vain_where_it_is_not_installed(
    jobs: FineTuning, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["t"]}}]}
    monkeypatch.setattr(service, "find_spec", lambda _: None)
    with pytest.raises(BadRequest, match="pip install wandb") as caught:
        create(jobs, file_id, **asked)
    assert caught.value.param == "integrations"
    monkeypatch.setattr(service, "find_spec", lambda _: object())
    job = strict(create(jobs, file_id, **asked))
    assert job.integrations is not None
    assert job.integrations[0].wandb.project == "p"


def test_the_stages_of_a_job_and_their_command_lines(
    jobs: FineTuning, settings: Settings, queue: Queue, file_id: str
) -> None:
    """The plan is the same each time, and every option is on a command line."""
    create(
        jobs, file_id, suffix="s", hyperparameters={"n_epochs": 2, "foo": 1},
        corral={"rank": 4, "warmup": 0, "targets": ["q_proj"], "quantise": ["Q8_0"], "merged": True},
    )  # fmt: skip
    spec = kind.KIND.parse(claim(queue).spec)
    folder = settings.data_dir / "jobs" / "job_0123456789abcdef01234567"
    stages = kind.plan(spec, settings, folder)  # type: ignore[arg-type]
    assert [stage.name for stage in stages] == [
        "validate", "render", "train", "parity", "merge", "quantize", "evaluate", "gate", "results",
    ]  # fmt: skip
    assert kind.plan(spec, settings, folder) == stages  # type: ignore[arg-type]
    train = stages[2].argv
    assert {"--epochs=2", "--rank=4", "--targets=q_proj", "--warmup=0", "--checkpoints"} <= {*train}
    assert "--name=ft:corral-tiny:local:s:01234567" in train
    assert "--note=hyperparameter `foo` means nothing here and is ignored" in stages[0].argv
    assert [stage.own for stage in stages] == [False] * 8 + [True]
    evaluation = folder / "work/evaluation.json"
    assert f"--give=--evaluation={evaluation}" in stages[7].argv


def test_the_engine_llama_cpp_makes_a_whole_model(
    jobs: FineTuning, settings: Settings, queue: Queue, file_id: str
) -> None:
    """Nothing is rendered or merged; what it does not take is told."""
    options = {"engine": "llama.cpp", "rank": 4, "merged": True, "quantise": ["Q8_0"]}
    create(jobs, file_id, suffix="s", hyperparameters={"n_epochs": 2}, corral=options)
    spec = kind.KIND.parse(claim(queue).spec)
    folder = settings.data_dir / "jobs" / "job_0123456789abcdef01234567"
    stages = kind.plan(spec, settings, folder)  # type: ignore[arg-type]
    assert [stage.name for stage in stages] == [
        "validate", "train", "parity", "quantize", "evaluate", "gate", "results",
    ]  # fmt: skip
    for name in ("merged", "rank"):
        said = f"--note=hyperparameter `{name}` means nothing here and is ignored"
        assert said in stages[0].argv
    name, rows = "ft-corral-tiny-local-s-01234567", folder / "work/input/training_file.jsonl"
    out = folder / "out" / f"{name}.gguf"
    train = {*stages[1].argv}
    assert {"--full", f"--file={rows}", f"--name={name}", f"--out={out}", "--epochs=2"} <= train
    assert f"--rows={rows}" not in stages[1].argv[stages[1].argv.index("--") :]
    assert f"--model={out}" in stages[2].argv
    assert f"--variant=tuned={out}" in stages[4].argv
    assert not any(word.startswith("--merged") for word in stages[6].argv)


def test_the_engine_llama_cpp_refuses_what_it_cannot_do(
    jobs: FineTuning, settings: Settings, file_id: str
) -> None:
    options: dict[str, Any] = {"corral": {"engine": "llama.cpp"}}
    for more in ({"method": {"type": "dpo"}}, {"validation_file": file_id}):
        with pytest.raises(BadRequest) as caught:
            create(jobs, file_id, **options, **more)
        assert caught.value.param == next(iter(more))
    halves = settings.data_dir / "models" / "halves.gguf"
    halves.parent.mkdir(parents=True)
    shutil.copyfile(settings.bundled_models_dir / "corral-tiny.gguf", halves)
    GGUFReader(halves, "r+").fields["general.file_type"].parts[-1][0] = 1
    with pytest.raises(BadRequest, match="trains F32 weights, and `halves` has F16") as caught:
        jobs.create({"model": "halves", "training_file": file_id, **options})
    assert caught.value.param == "model"
