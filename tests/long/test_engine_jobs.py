"""The engines beside `peft` in whole jobs: files, job, parity check, evaluation, and the served answer."""

import json
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.e2e.corral_process import CorralProcess, wait_for
from tests.e2e.test_finetune import ENDED, rows, upload

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
BACKEND = "mlx-metal" if sys.platform == "darwin" else "mlx-cpu"
# A whole job, beside other work.
PATIENCE = 1800
TWO_EPOCHS: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}


@pytest.fixture(scope="module")
def mlx_python() -> Path:
    """This environment with MLX and mlx-lm over it, made the first time."""
    folder = ROOT / "build" / "mlx"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True)
        under = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (folder / "lib" / name / "site-packages" / "under.pth").write_text(under)
        install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "mlx", BACKEND, "mlx-lm"]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return python


def trained(client: OpenAI, file_id: str, **options: Any) -> tuple[FineTuningJob, list[str]]:
    """The job of an engine, which must have succeeded, and all its events, the newest first."""
    began = time.monotonic()
    job = client.fine_tuning.jobs.create(
        model="corral-tiny",
        training_file=file_id,
        seed=7,
        method=TWO_EPOCHS,
        extra_body={"corral": {"evaluation_tokens": 200, **options}},
    )
    job = ended(client, job.id)
    seconds = time.monotonic() - began
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=50)]
    assert job.status == "succeeded", (job.error, said[:5])
    assert any("training and serving agree on" in each for each in said)
    print(f"\n{options['engine']}: {seconds:.0f} s in all, {job.trained_tokens} tokens")
    print("\n".join(said[::-1]))
    return job, said


def ended(client: OpenAI, job_id: str) -> FineTuningJob:
    """The job, once it has ended."""

    def look() -> FineTuningJob | None:
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ENDED else None

    job = wait_for(f"{job_id} ends", PATIENCE, look)
    assert job is not None
    return job


def losses(job: FineTuningJob) -> tuple[float, float]:
    """Of the base and of the tuned model, on the rows to measure with."""
    base, tuned, *_ = job.corral["evaluation"]["models"]  # type: ignore[attr-defined]
    return base["loss"], tuned["loss"]


def answer(client: OpenAI, model: str | None) -> str | None:
    question: Any = json.loads(rows(70, 1)[0])["messages"][:-1]
    made = client.chat.completions.create(
        model=str(model), messages=question, max_tokens=24, temperature=0
    )
    assert made.model == model
    return made.choices[0].message.content


def test_mlx_trains_what_is_served(
    mlx_python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        capsys.disabled(),
        CorralProcess(tmp_path, python=mlx_python) as corral,
        OpenAI(base_url=corral.url, api_key="any", max_retries=0) as client,
    ):
        options = {"rank": 8, "batch_tokens": 1024, "evaluation_file": upload(client, rows(60, 2))}
        job, _ = trained(client, upload(client, rows(0, 16)), engine="mlx", **options)
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoints[0].fine_tuned_model_checkpoint == job.fine_tuned_model
        assert len(checkpoints) == 2
        base, tuned = losses(job)
        assert tuned < 0.9 * base
        steps = [each.data for each in client.fine_tuning.jobs.list_events(job.id, limit=50)
                 if each.type == "metrics"]  # fmt: skip
        assert steps[0]["step"] == steps[0]["total_steps"]  # type: ignore[index]
        assert answer(client, job.fine_tuned_model) != answer(client, "corral-tiny")


def test_llama_cpp_trains_what_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every weight, on text: the result is a model of its own, under its base's template and context."""
    talks = [json.loads(line)["messages"] for line in rows(0, 24)]
    texts = [json.dumps({"text": "\n".join(m["content"] for m in talk[1:])}) for talk in talks]
    with (
        capsys.disabled(),
        CorralProcess(tmp_path) as corral,
        OpenAI(base_url=corral.url, api_key="any", max_retries=0) as client,
    ):
        options = {"rate": 1e-4, "evaluation_file": upload(client, rows(60, 2)), "rank": 8}
        options["quantise"] = ["q8_0"]
        job, said = trained(client, upload(client, texts), engine="llama.cpp", **options)
        assert "hyperparameter `rank` means nothing here and is ignored" in said
        name = f"ft-corral-tiny-local-{job.id.removeprefix('ftjob-')[:8]}"
        assert job.fine_tuned_model == f"openai/{name}"
        assert job.corral["whole_models"] == [f"{name}-Q8_0", name]  # type: ignore[attr-defined]
        (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model
        assert checkpoint.metrics.valid_loss is not None
        first, last = train_losses(client, job)
        assert last < first
        base, tuned = losses(job)
        assert base != tuned
        assert answer(client, job.fine_tuned_model) != answer(client, "corral-tiny")
        assert client.models.delete(str(job.fine_tuned_model)).deleted
        wait_for("it is gone", 10, lambda: name not in {m.id for m in client.models.list()})
        with pytest.raises(openai.NotFoundError):
            answer(client, job.fine_tuned_model)


def train_losses(client: OpenAI, job: FineTuningJob) -> tuple[float, ...]:
    """Of each epoch, from the result file."""
    table = client.files.content(job.result_files[0]).text.splitlines()
    assert table[0].startswith("step,train_loss,")
    return tuple(float(line.split(",")[1]) for line in table[1:])
