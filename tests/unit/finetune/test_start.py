"""A job that goes on from a fine-tuned model: what it takes from it, keeps of it, and refuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from corral.errors import BadRequest, DiskFullError, InvalidModel
from corral.finetune import kind, start
from corral.finetune.service import FineTuning
from corral.jobs import runner
from corral.jobs.queue import Queue
from corral.registry.lora_header import read_lora
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.gguf_file import write_adapter

TUNED = "ft:corral-tiny:local:mine:0123abcd"


@pytest.fixture
def tuned(settings: Settings, tmp_path: Path) -> str:
    """A registered adapter over the bundled base, of rank 32 and alpha 64."""
    shutil.copyfile(settings.bundled_models_dir / "corral-tiny-folio.gguf", tmp_path / "a.gguf")
    file = ManifestFile(name="a.gguf", role="adapter")
    base = BaseOf(name="corral-tiny")
    Registry(settings).add(Manifest(name=TUNED, kind="adapter", files=(file,), base=base), tmp_path)
    return TUNED


def create(jobs: FineTuning, file_id: str, model: str, **more: Any) -> dict[str, Any]:
    return jobs.create({"model": model, "training_file": file_id, **more})


def stages_of(settings: Settings, queue: Queue) -> dict[str, tuple[str, ...]]:
    """The stages of the job that is next, by name."""
    lease = queue.claim("w")
    assert lease is not None
    spec = kind.KIND.parse(lease.spec)
    folder = settings.data_dir / "jobs" / lease.job_id
    return {s.name: s.argv for s in kind.plan(spec, settings, folder)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked", [TUNED, f"openai/{TUNED}", TUNED.replace(":", "%3A"), "corral-tiny-folio"]
)
def test_it_is_trained_over_the_same_base_with_rank_and_alpha_of_the_model(
    asked: str, tuned: str, jobs: FineTuning, settings: Settings, queue: Queue, file_id: str
) -> None:
    job = create(jobs, file_id, asked, corral={"rank": 32})
    named = tuned if ":" in asked or "%" in asked else asked
    assert (job["model"], job["corral"]["base"]) == (named, "corral-tiny")
    assert job["corral"]["options"] == {"rank": 32, "alpha": 64.0}
    stages = stages_of(settings, queue)
    folder = settings.data_dir / "jobs" / job["id"].replace("ftjob-", "job_")
    copy, base = folder / "work" / "start.gguf", settings.bundled_models_dir / "corral-tiny.gguf"
    assert {f"--start={copy}", f"--start-name={named}", "--rank=32", "--alpha=64.0"} <= {
        *stages["train"]
    }
    assert f"--model={base}" in stages["train"]
    assert f"--variant=before={base}+{copy}" in stages["evaluate"]
    assert not any("another name here" in word for word in stages["validate"])


def test_the_job_keeps_the_model_until_it_ends(
    tuned: str, jobs: FineTuning, settings: Settings, queue: Queue, file_id: str
) -> None:
    """Deleted, and its bytes collected, while the job waits."""
    job = create(jobs, file_id, tuned)
    folder = settings.data_dir / "jobs" / job["id"].replace("ftjob-", "job_")
    held = (settings.bundled_models_dir / "corral-tiny-folio.gguf").read_bytes()
    jobs.delete_model(tuned)
    assert Registry(settings).gc().removed
    assert stages_of(settings, queue)
    assert start.kept_in(folder).read_bytes() == held
    runner.clear(folder)
    assert not start.kept_in(folder).exists()
    spec = kind.KIND.parse(queue.get(folder.name)["spec"])
    with pytest.raises(BadRequest, match=r"copy of `ft:.*` is gone"):
        kind.plan(spec, settings, folder)  # type: ignore[arg-type]


def test_a_job_that_is_cancelled_while_it_waits_keeps_nothing(
    tuned: str, jobs: FineTuning, settings: Settings, file_id: str
) -> None:
    job = create(jobs, file_id, tuned)
    folder = settings.data_dir / "jobs" / job["id"].replace("ftjob-", "job_")
    assert start.kept_in(folder).is_file()
    assert jobs.cancel(job["id"])["status"] == "cancelled"
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"rank": 8}, "corral.rank"),
        ({"alpha": 1.0}, "corral.alpha"),
        ({"targets": ["q_proj"]}, "corral.targets"),
        ({"engine": "mlx"}, "corral.engine"),
    ],
)
def test_what_contradicts_the_model_is_refused_by_name(
    options: dict[str, Any],
    param: str,
    tuned: str,
    jobs: FineTuning,
    settings: Settings,
    file_id: str,
) -> None:
    with pytest.raises(BadRequest, match="train `corral-tiny`") as caught:
        create(jobs, file_id, tuned, corral=options)
    assert caught.value.param == param
    assert not (settings.data_dir / "jobs").exists()


def test_a_full_disk_makes_no_job(
    tuned: str,
    jobs: FineTuning,
    settings: Settings,
    file_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(start, "sync_file", full)
    with pytest.raises(DiskFullError):
        create(jobs, file_id, tuned)
    assert jobs.list()["data"] == []
    assert not any((settings.data_dir / "jobs").iterdir())


def test_what_is_no_plain_lora_is_told(settings: Settings, tmp_path: Path) -> None:
    assert read_lora(settings.bundled_models_dir / "corral-tiny-folio.gguf") == (32, 64.0)
    for path in (
        settings.bundled_models_dir / "corral-tiny.gguf",
        write_adapter(tmp_path / "a", "b"),
    ):
        with pytest.raises(InvalidModel, match="is no plain LoRA"):
            read_lora(path)
