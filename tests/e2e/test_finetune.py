"""The OpenAI SDK trains on this machine: a real small training, from the file to the served answer."""

import csv
import io
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest
from gguf import GGUFReader
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from corral.registry.store import Registry
from corral.settings import Settings
from tests.e2e.corral_process import CorralProcess, wait_for

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
QUICK = {"batch_tokens": 2048, "rank": 8}
ONE_EPOCH: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}
ENDED = ("succeeded", "failed", "cancelled")
PATIENCE = 600


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorralProcess]:
    """A Corral of this module's own: what it trains is none of the others' business."""
    with CorralProcess(tmp_path_factory.mktemp("trainer")) as process:
        yield process


@pytest.fixture(scope="module")
def client(trainer: CorralProcess) -> Iterator[OpenAI]:
    """The SDK, strict: an answer that breaks its types raises."""
    with OpenAI(
        base_url=trainer.url, api_key="any", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def rows(first: int, count: int) -> list[str]:
    return HELD_OUT.read_text(encoding="utf-8").splitlines()[first : first + count]


def upload(client: OpenAI, lines: list[str]) -> str:
    body = ("\n".join(lines) + "\n").encode()
    return client.files.create(file=("rows.jsonl", body), purpose="fine-tune").id


def start(client: OpenAI, file_id: str, **more: Any) -> FineTuningJob:
    more.setdefault("method", ONE_EPOCH)
    return client.fine_tuning.jobs.create(
        model="corral-tiny", training_file=file_id, extra_body={"corral": QUICK}, **more
    )


def ended(client: OpenAI, job_id: str, pause: float = 0.5) -> FineTuningJob:
    """The job, once it has ended."""

    def look() -> FineTuningJob | None:
        time.sleep(pause)
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ENDED else None

    return wait_for(f"{job_id} ends", PATIENCE, look)  # type: ignore[return-value]


def in_training(client: OpenAI, job_id: str) -> None:
    """Wait until there is a first step."""

    def look() -> bool:
        events = client.fine_tuning.jobs.list_events(job_id, limit=1).data
        return events[0].type == "metrics"

    wait_for("the training has begun", PATIENCE, look)


def messages(client: OpenAI, job_id: str) -> list[str]:
    """Every event's message, the newest first."""
    return [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=7)]


def test_from_a_file_to_an_answer_under_the_models_name(client: OpenAI) -> None:
    file_id, valid = upload(client, rows(0, 55)), upload(client, rows(60, 6))
    job = start(
        client, file_id, validation_file=valid, suffix="Mein Modell!", seed=7, metadata={"a": "b"}
    )
    assert (job.status, job.fine_tuned_model, job.estimated_finish) == ("queued", None, None)
    assert (job.seed, job.metadata, job.trained_tokens) == (7, {"a": "b"}, None)
    in_training(client, job.id)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    wait_for(
        "its end is estimated",
        10,
        lambda: client.fine_tuning.jobs.retrieve(job.id).estimated_finish is not None,
    )
    job = ended(client, job.id, pause=0.05)
    assert job.error is None, job.error
    check_answers_at_once(client, job)
    name = f"ft:corral-tiny:local:Mein-Modell:{job.id.removeprefix('ftjob-')[:8]}"
    assert job.fine_tuned_model == f"openai/{name}"
    assert job.trained_tokens is not None
    assert job.trained_tokens > 10_000
    check_events(client, job)
    check_result_files(client, job)
    check_checkpoints(client, job, name)
    check_served(client, name)


def check_answers_at_once(client: OpenAI, job: FineTuningJob) -> None:
    """The very first request is answered, with no look at what is listed before it."""
    began = time.monotonic()
    asked: Any = [{"role": "user", "content": "x"}]
    model = str(job.fine_tuned_model)
    client.chat.completions.create(model=model, messages=asked, max_tokens=1)
    print(f"the first answer took {time.monotonic() - began:.2f} s")


def check_events(client: OpenAI, job: FineTuningJob) -> None:
    events = [*client.fine_tuning.jobs.list_events(job.id, limit=5)]
    assert [int(e.id.removeprefix("ftevent-")) for e in events] == sorted(
        (int(e.id.removeprefix("ftevent-")) for e in events), reverse=True
    )
    assert job.fine_tuned_model is not None
    assert events[0].message.endswith(job.fine_tuned_model)
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    last: Any = next(event for event in events if event.type == "metrics").data
    assert last["step"] == last["total_steps"]
    assert 0 < last["train_loss"] < 3
    assert any("runs beside serving" in event.message for event in events)
    assert any("tuned against base" in event.message for event in events)


def check_result_files(client: OpenAI, job: FineTuningJob) -> None:
    files = {client.files.retrieve(id).filename: id for id in job.result_files}
    assert set(files) == {"step_metrics.csv", "evaluation.json", "evaluation.html"}
    table = client.files.content(files["step_metrics.csv"]).text
    steps = [*csv.DictReader(io.StringIO(table))]
    assert [int(row["step"]) for row in steps] == [*range(1, len(steps) + 1)]
    assert float(steps[-1]["valid_loss"]) > 0
    found = json.loads(client.files.content(files["evaluation.json"]).text)
    base, tuned = found["models"]
    assert found["rows"] == 6
    assert tuned["loss"] < base["loss"]
    assert client.files.content(files["evaluation.html"]).text.startswith("<!doctype html>")


def check_checkpoints(client: OpenAI, job: FineTuningJob, name: str) -> None:
    (last,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert last.fine_tuned_model_checkpoint == f"openai/{name}"
    assert last.metrics.train_loss is not None
    assert last.metrics.full_valid_loss is not None
    assert last.metrics.step == last.step_number


def check_served(client: OpenAI, name: str) -> None:
    """It answers at once, otherwise than its base, and is listed; and is gone after DELETE."""
    asked = json.loads(rows(70, 1)[0])["messages"][:-1]
    answers = {
        model: client.chat.completions.create(
            model=model, messages=asked, temperature=0, max_tokens=40
        )
        for model in (f"openai/{name}", "corral-tiny")
    }
    assert name in {model.id for model in client.models.list()}
    assert len({answer.choices[0].message.content for answer in answers.values()}) == 2
    assert answers[f"openai/{name}"].model == f"openai/{name}"
    deleted = client.models.delete(f"openai/{name}")
    assert (deleted.id, deleted.deleted, deleted.object) == (f"openai/{name}", True, "model")
    wait_for("it is gone", 10, lambda: name not in {model.id for model in client.models.list()})
    with pytest.raises(openai.NotFoundError):
        client.models.delete(name)


def test_a_bad_row_fails_the_job_while_files_are_validated(client: OpenAI) -> None:
    lines = rows(0, 11)
    lines[4] = '{"messages": [{"role": "user", "content": 5}]}'
    job = ended(client, start(client, upload(client, lines)).id)
    assert (job.status, job.fine_tuned_model, job.result_files) == ("failed", None, [])
    assert job.error is not None
    assert job.error.param == "training_file"
    assert job.error.message.startswith("training_file, line 5, messages[0].content: found 5")
    last = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (last.level, last.message) == ("error", job.error.message)
    assert messages(client, job.id)[1] == "Validating files"


def test_a_paused_training_goes_on_where_it_stopped(client: OpenAI) -> None:
    job = start(client, upload(client, rows(0, 45)))
    in_training(client, job.id)
    paused = client.fine_tuning.jobs.pause(job.id)
    assert paused.status == "queued"
    assert paused.corral["paused"] is True  # type: ignore[attr-defined]
    said = "Fine-tuning job paused; it goes on where it stopped when it is resumed"
    wait_for("it is paused", 20, lambda: messages(client, job.id)[0] == said)
    steps = last_step(client, job.id)
    time.sleep(3)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert client.fine_tuning.jobs.resume(job.id).corral["paused"] is False  # type: ignore[attr-defined]
    job = ended(client, job.id)
    assert job.status == "succeeded", job.error
    went_on = [text for text in messages(client, job.id) if text.startswith("going on after step")]
    assert int(went_on[0].rpartition(" ")[2]) >= steps


def last_step(client: OpenAI, job_id: str) -> int:
    events = client.fine_tuning.jobs.list_events(job_id, limit=10).data
    data: Any = next(event for event in events if event.type == "metrics").data
    return int(data["step"])


def test_a_training_is_cancelled_within_5_seconds(client: OpenAI, trainer: CorralProcess) -> None:
    job = start(client, upload(client, rows(0, 45)))
    in_training(client, job.id)
    asked = time.monotonic()
    client.fine_tuning.jobs.cancel(job.id)
    assert ended(client, job.id).status == "cancelled"
    assert time.monotonic() - asked < 5.5  # one of this test's own polls
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.resume(job.id)
    folder = trainer.data_dir / "jobs" / job.id.replace("ftjob-", "job_")
    wait_for(
        "it is tidied", 10, lambda: {p.name for p in folder.iterdir()} == {"logs", "spec.json"}
    )


def test_a_training_that_diverges_fails_with_the_reason_and_leaves_nothing(
    client: OpenAI, trainer: CorralProcess
) -> None:
    """Over a base with a weight that is no number; the file is dropped into the models' folder."""
    broken = trainer.data_dir / "models" / "broken.gguf"
    broken.parent.mkdir(exist_ok=True)
    shutil.copyfile(Settings().bundled_models_dir / "corral-tiny.gguf", broken.with_suffix(".part"))
    tensors = GGUFReader(broken.with_suffix(".part"), "r+").tensors
    next(t for t in tensors if t.name == "output_norm.weight").data[0] = math.nan
    broken.with_suffix(".part").rename(broken)
    file_id = upload(client, rows(0, 45))
    job = client.fine_tuning.jobs.create(model="broken", training_file=file_id, method=ONE_EPOCH)
    job = ended(client, job.id)
    assert (job.status, job.fine_tuned_model, job.result_files) == ("failed", None, [])
    assert job.error is not None
    assert job.error.code == "loss_not_finite"
    assert job.error.message.startswith("the loss is nan at step 1")
    assert messages(client, job.id)[0] == job.error.message
    assert not any(model.id.startswith("ft:broken") for model in client.models.list())
    folder = trainer.data_dir / "jobs" / job.id.replace("ftjob-", "job_")
    wait_for(
        "it is tidied", 10, lambda: {p.name for p in folder.iterdir()} == {"logs", "spec.json"}
    )
    broken.unlink()


def test_an_option_that_does_not_fit_the_model_is_told_by_its_name(client: OpenAI) -> None:
    options: Any = {"n_epochs": 1, "lora_targets": ["q_proj", "elsewhere"]}
    file_id = upload(client, rows(0, 12))
    job = client.fine_tuning.jobs.create(
        model="corral-tiny", training_file=file_id, hyperparameters=options
    )
    job = ended(client, job.id)
    assert job.error is not None
    assert (job.status, job.error.param) == ("failed", "targets")
    assert "its linear layers: " in job.error.message


def test_preferences_are_learned_by_dpo(client: OpenAI) -> None:
    chats = [json.loads(line)["messages"] for line in rows(0, 13)]
    pairs = [
        json.dumps(
            {
                "input": {"messages": chat[:-1]},
                "preferred_output": [chat[-1]],
                "non_preferred_output": [other[-1]],
            }
        )
        for chat, other in pairwise(chats)
    ]
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2}}}
    job = ended(client, start(client, upload(client, pairs), method=method).id)
    assert job.error is None, job.error
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert len(job.result_files) == 1  # nothing to measure with


def test_merged_and_quantised_models_pass_the_gate_and_are_served(
    client: OpenAI, trainer: CorralProcess
) -> None:
    options = {**QUICK, "quantise": ["q8_0"], "merged": True}
    job = client.fine_tuning.jobs.create(
        model="corral-tiny",
        training_file=upload(client, rows(0, 55)),
        method=ONE_EPOCH,
        extra_body={"corral": options},
    )
    job = ended(client, job.id)
    assert job.error is None, job.error
    whole = job.corral["whole_models"]  # type: ignore[attr-defined]
    name = job.id.removeprefix("ftjob-")[:8]
    assert whole == [f"ft-corral-tiny-local-{name}-F32", f"ft-corral-tiny-local-{name}-Q8_0"]
    measured = {each["model"]: each for each in job.corral["evaluation"]["models"]}  # type: ignore[attr-defined]
    assert [*measured] == ["base", "tuned", "tuned Q8_0"]
    settings = Settings(data_dir=trainer.data_dir)
    kept = Registry(settings).revisions(whole[1])[0].manifest.metrics["measure"]
    assert kept["score"] == round(measured["tuned Q8_0"]["exact"], 4)
    assert kept["gate"]["passed"]
    for model in whole:
        asked: Any = [{"role": "user", "content": "x"}]
        client.chat.completions.create(model=model, messages=asked, max_tokens=2)
        assert client.models.delete(model).deleted


def test_a_tuned_model_is_trained_further_and_may_be_deleted_meanwhile(client: OpenAI) -> None:
    """DELETE comes while the second job waits: it has its copy."""
    file_id = upload(client, rows(0, 16))
    first = ended(client, start(client, file_id).id)
    assert first.error is None, first.error
    model, valid = str(first.fine_tuned_model), upload(client, rows(60, 4))
    job = client.fine_tuning.jobs.create(
        model=model, training_file=file_id, validation_file=valid, method=ONE_EPOCH, suffix="more",
        extra_body={"corral": {"batch_tokens": 2048}},
    )  # fmt: skip
    client.fine_tuning.jobs.pause(job.id)
    assert client.models.delete(model).deleted
    client.fine_tuning.jobs.resume(job.id)
    job = ended(client, job.id)
    assert job.error is None, job.error
    assert f"openai/{job.model}" == model
    assert job.corral["base"] == "corral-tiny"  # type: ignore[attr-defined]
    assert job.corral["options"]["rank"] == QUICK["rank"]  # type: ignore[attr-defined]
    assert losses(client, job)[0] < losses(client, first)[0]
    measured = job.corral["evaluation"]["models"]  # type: ignore[attr-defined]
    assert [each["model"] for each in measured] == ["before", "tuned"]
    assert measured[1]["loss"] < measured[0]["loss"]
    check_served(client, str(job.fine_tuned_model).removeprefix("openai/"))


def losses(client: OpenAI, job: FineTuningJob) -> list[float]:
    """The training loss of each step."""
    files = {client.files.retrieve(id).filename: id for id in job.result_files}
    table = client.files.content(files["step_metrics.csv"]).text
    return [float(row["train_loss"]) for row in csv.DictReader(io.StringIO(table))]


def test_the_example_shows_before_and_after(trainer: CorralProcess, tmp_path: Path) -> None:
    train, held_out = tmp_path / "train.jsonl", tmp_path / "held_out.jsonl"
    train.write_text("\n".join(rows(0, 50)) + "\n")
    held_out.write_text("\n".join(rows(200, 8)) + "\n")
    example = ROOT / "examples" / "finetune_sdk.py"
    files = ("--train", train, "--held-out", held_out)
    done = subprocess.run(
        [sys.executable, example, trainer.url, "--epochs", "1", *files],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("whole record right")[1].splitlines()
    assert [line.split("  ")[0] for line in table[1:4]] == ["base", "tuned", "tuned Q8_0"]
    assert "openai/ft:corral-tiny:local:folio:" in done.stdout
    assert "from the file to this answer" in done.stdout
