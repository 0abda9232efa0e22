"""The metrics by themselves, and that the dashboard asks for nothing else."""

import asyncio
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from corral import database
from corral.errors import StoreError
from corral.gateway.admission import Admission, Seat
from corral.gateway.gauges import Gauges
from corral.jobs.queue import Queue
from corral.jobs.tally import unfinished
from corral.metrics import Metrics, Now
from corral.registry.scan import scan
from corral.runtime.upstream import Runtime
from corral.settings import Settings

NOTHING = Now()


def samples(metrics: Metrics, now: Now = NOTHING) -> dict[str, float]:
    """Every sample as `name{label=value}`."""
    families = text_string_to_metric_families(metrics.render(now).decode())
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_tokens_and_rates_are_counted_by_model() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.spent("tiny", 100, 40, 20, 0.5, 2.0)
    found = samples(metrics)
    assert found["corral_prompt_tokens_total model=tiny"] == 200
    assert found["corral_cached_tokens_total model=tiny"] == 80
    assert found["corral_generated_tokens_total model=tiny"] == 40
    # 60 tokens that the cache did not have, in half a second; 20 written in two.
    assert found["corral_prompt_tokens_per_second_sum model=tiny"] == 240
    assert found["corral_generated_tokens_per_second_sum model=tiny"] == 20


def test_seconds_that_are_not_known_make_no_rate() -> None:
    metrics = Metrics()
    metrics.spent("tiny", 100, 40, 20, 0.0, 0.0)
    assert not [name for name in samples(metrics) if "per_second_count" in name]


def test_a_refusal_is_counted_by_model_and_code() -> None:
    metrics = Metrics()
    metrics.observe("/v1/chat/completions", "tiny", 429, "queue_full", 0.1, None)
    metrics.observe("/v1/chat/completions", "tiny", 400, "invalid_request", 0.1, None)
    found = samples(metrics)
    assert found["corral_refused_total code=queue_full model=tiny"] == 1
    assert len([name for name in found if name.startswith("corral_refused_total")]) == 1


def test_what_is_no_more_is_not_shown() -> None:
    metrics = Metrics()
    full = Now({"tiny": 2}, {"tiny": 1}, {"tiny@1": 4}, {"tiny@1": 2}, {"loaded": 1})
    found = samples(metrics, full)
    assert found["corral_running model=tiny"] == 2
    assert found["corral_waiting model=tiny"] == 1
    assert (found["corral_slots section=tiny@1"], found["corral_slots_busy section=tiny@1"]) == (
        4,
        2,
    )
    assert not [name for name in samples(metrics) if name.startswith("corral_running ")]


async def test_the_queue_tells_who_runs_and_who_waits() -> None:
    admission = Admission(10)
    release = asyncio.Event()

    async def ask(model: str) -> None:
        async with admission.seat(Seat("base@1", 2, model, "")):
            await release.wait()

    tasks = [asyncio.create_task(ask(model)) for model in ("base", "base", "base", "ft", "ft")]
    await asyncio.sleep(0)
    assert admission.running() == {"base": 2}
    assert admission.busy() == {"base@1": 2}
    assert admission.waiting() == {"base": 1, "ft": 2}
    release.set()
    await asyncio.gather(*tasks)
    assert (admission.running(), admission.waiting()) == ({}, {})


def gauges(tmp_path: Path, counts: object) -> Gauges:
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "bundled_models_dir": tmp_path / "none"}
    )
    runtime = Runtime(settings, scan(settings))
    return Gauges(runtime, Admission(1), counts)  # type: ignore[arg-type]


def test_jobs_that_have_not_ended_are_counted(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    assert unfinished(settings) == {}
    assert not (tmp_path / "corral.db").exists()
    queue = Queue(database.ready(settings))
    first = queue.submit("pull", {})
    for _ in range(2):
        queue.submit("finetune", {})
    assert unfinished(settings) == {("pull", "queued"): 1, ("finetune", "queued"): 2}
    queue.cancel(first["id"])
    assert unfinished(settings) == {("finetune", "queued"): 2}


async def test_a_database_that_is_away_leaves_the_jobs_out(tmp_path: Path) -> None:
    def away() -> dict[tuple[str, str], int]:
        raise StoreError("the database is away")

    assert (await gauges(tmp_path, away).now()).jobs == {}


async def test_a_database_that_hangs_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.gateway.gauges.JOBS_SECONDS", 0.05)
    asked, go_on = [], threading.Event()

    def hang() -> dict[tuple[str, str], int]:
        asked.append(1)
        go_on.wait(10)
        return {("finetune", "queued"): 3}

    here = gauges(tmp_path, hang)
    assert [(await here.now()).jobs for _ in range(3)] == [{}] * 3
    assert len(asked) == 1
    go_on.set()
    await asyncio.sleep(0.1)
    assert (await here.now()).jobs == {("finetune", "queued"): 3}
