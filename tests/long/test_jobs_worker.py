"""Workers as real processes over one queue: jobs end right whatever is killed, and when."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from corral import database
from corral.jobs.keeper import _marked
from corral.jobs.queue import ENDED, MAX_ATTEMPTS, Queue
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes import jobs
from tests.fakes.served import children, is_alive, wait_for

# claimed, folder, 4 for the stage, 4 for the registration, end, cleared
STEPS = 12


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "none")


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue(database.ready(settings), jobs.LEASE)


@pytest.fixture
def start(settings: Settings) -> Iterator[Any]:
    """Starts workers; they are ended after the test."""
    started: list[BaseProcess] = []

    def go(kill_at: int = 0, lease: float = jobs.LEASE) -> BaseProcess:
        started.append(jobs.start_worker(settings, kill_at=kill_at, lease=lease))
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.join()


def submit(queue: Queue, *stages: Sequence[str]) -> str:
    row = queue.submit("script", {"stages": [list(stage) for stage in stages]})
    job_id: str = row["id"]
    return job_id


def ended(queue: Queue, job_id: str, patience: float = 60) -> Any:
    """The job, once it has ended."""

    def look() -> Any:
        row = queue.get(job_id)
        return row if row["status"] in ENDED else None

    return wait_for(look, f"{job_id} ends", patience)


def there(path: Path) -> int:
    """The process id that a stage has written to `path`."""
    return int(wait_for(lambda: path.exists() and path.read_text(), f"{path.name} is there", 60))


def processes_of(job_id: str) -> list[int]:
    return list(_marked(f"_CORRAL_JOB={job_id}".encode()))


def left_in(settings: Settings, job_id: str) -> set[str]:
    return {path.name for path in (settings.data_dir / "jobs" / job_id).iterdir()}


def events(queue: Queue, job_id: str) -> list[str]:
    return [row["text"] for row in queue.events(job_id, 1000, since=0)[0]]


def test_jobs_run_one_after_another_to_their_ends(
    settings: Settings, queue: Queue, start: Any
) -> None:
    good = submit(queue, ("message=hello", "model={folder}/out/one"), ('result={"n": 2}',))
    refused = submit(queue, ("error=kld 0.9 over 0.1", "exit=3"))
    unknown = queue.submit("fry", {})["id"]
    malformed = queue.submit("script", {"stages": 3})["id"]
    start()
    row = ended(queue, good)
    assert row["result"] == {"registered": ["one"], "result": {"n": 2}}
    assert events(queue, good) == [
        "queued", "running", "stage stage-1 (1 of 3)", "hello", "stage stage-2 (2 of 3)",
        "stage register (3 of 3)", "succeeded",
    ]  # fmt: skip
    row = ended(queue, refused)
    assert (row["status"], row["error_code"], row["error"]) == (
        "failed",
        "gate_refused",
        "kld 0.9 over 0.1",
    )
    row = ended(queue, unknown)
    assert (row["error_code"], row["error_param"]) == ("invalid_request", "kind")
    assert ended(queue, malformed)["error_param"] == "spec.stages"
    for job_id in (good, refused):
        wait_for(lambda j=job_id: left_in(settings, j) == {"logs", "spec.json"}, "tidied")  # type: ignore[misc]


def test_two_workers_share_the_work(queue: Queue, start: Any, tmp_path: Path) -> None:
    """Each of two jobs waits for the other's file: only side by side can they end."""
    a, b = tmp_path / "a", tmp_path / "b"
    ids = [submit(queue, (f"touch={a}", f"wait={b}")), submit(queue, (f"touch={b}", f"wait={a}"))]
    start(), start()
    assert {ended(queue, job_id)["status"] for job_id in ids} == {"succeeded"}
    assert len({queue.get(job_id)["worker"] for job_id in ids}) == 2


@pytest.mark.parametrize("kill_at", range(1, STEPS + 1))
def test_a_worker_killed_at_any_step_leaves_a_job_that_ends_right(
    settings: Settings, queue: Queue, start: Any, tmp_path: Path, kill_at: int
) -> None:
    job_id = submit(queue, (f"append={tmp_path / 'runs'}", "model={folder}/out/one"))
    first = start(kill_at)
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    start()
    row = ended(queue, job_id)
    assert (row["status"], row["result"]["registered"]) == ("succeeded", ["one"])
    (artifact,) = Registry(settings).everything()
    assert Registry(settings).verify() == []
    assert artifact.manifest.revision == 1
    wait_for(lambda: left_in(settings, job_id) == {"logs", "spec.json"}, "tidied")
    # Steps 3 to 6 are those of the stage; only before the last of them may it run again.
    runs = (tmp_path / "runs").read_text().count("x")
    assert runs == (2 if kill_at in (4, 5) else 1)
    assert processes_of(job_id) == []


def test_there_are_no_more_steps_than_that(
    settings: Settings, queue: Queue, start: Any, tmp_path: Path
) -> None:
    job_id = submit(queue, (f"append={tmp_path / 'runs'}", "model={folder}/out/one"))
    worker = start(STEPS + 1)
    ended(queue, job_id)
    wait_for(lambda: left_in(settings, job_id) == {"logs", "spec.json"}, "tidied")
    assert worker.is_alive()


@pytest.mark.parametrize("victim", ["worker", "stage", "keeper", "worker and keeper"])
def test_whoever_is_killed_the_job_goes_on_from_the_last_finished_stage(
    queue: Queue, start: Any, tmp_path: Path, victim: str
) -> None:
    runs, pids = tmp_path / "runs", tmp_path / "pids"
    pids.mkdir()
    go = tmp_path / "go"
    job_id = submit(
        queue,
        (f"append={runs}", 'result={"first": 1}'),
        (
            f"escape={pids / 'escaped'}",
            f"fork={pids / 'child'}",
            f"wait={go}",
            'result={"last": 1}',
        ),
    )
    worker = start()
    orphans = [there(pids / name) for name in ("escaped", "child")]
    (keeper,) = children(worker.pid)
    (stage,) = children(keeper)
    os.kill(stage, signal.SIGSTOP)  # so that it does not end by itself: the next attempt shall
    go.touch()
    hit = {"worker": [worker.pid], "stage": [stage], "keeper": [keeper]}
    for pid in hit.get(victim, [worker.pid, keeper]):
        os.kill(pid, signal.SIGKILL)
    if "worker" in victim:
        start()
    wait_for(lambda: not any(map(is_alive, [stage, *orphans])), "nothing is left running")
    row = ended(queue, job_id)
    assert (row["status"], row["result"]["result"]) == ("succeeded", {"last": 1})
    assert runs.read_text() == "x\n"
    assert processes_of(job_id) == []


def test_a_stage_that_is_killed_every_time_fails_with_the_reason(queue: Queue, start: Any) -> None:
    job_id = submit(queue, ("print=loading weights", "kill"))
    start()
    row = ended(queue, job_id)
    assert (row["status"], row["error_code"], row["attempts"]) == (
        "failed",
        "stage_killed",
        MAX_ATTEMPTS,
    )
    assert "killed (signal 9); out of memory?" in row["error"]
    assert "its last line: loading weights" in row["error"]
    assert sum("trying again" in text for text in events(queue, job_id)) == MAX_ATTEMPTS - 1


def test_a_running_job_is_cancelled_within_5_s_though_its_stage_resists(
    settings: Settings, queue: Queue, start: Any, tmp_path: Path
) -> None:
    job_id = submit(
        queue, ("ignore-term", "model={folder}/out/half", f"fork={tmp_path / 'c'}", "sleep=600")
    )
    start()
    child = there(tmp_path / "c")
    asked = time.monotonic()
    queue.cancel(job_id)
    assert ended(queue, job_id)["status"] == "cancelled"
    assert time.monotonic() - asked < 5
    assert not is_alive(child)
    wait_for(lambda: left_in(settings, job_id) == {"logs", "spec.json"}, "tidied")
    assert Registry(settings).list() == []


def test_a_stopped_worker_gives_its_job_back(queue: Queue, start: Any, tmp_path: Path) -> None:
    job_id = submit(queue, (f"fork={tmp_path / 'c'}", f"wait={tmp_path / 'go'}"))
    worker = start()
    child = there(tmp_path / "c")
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
    row = queue.get(job_id)
    assert (row["status"], row["attempts"]) == ("queued", 0)
    assert not is_alive(child)
    (tmp_path / "go").touch()
    start()
    assert ended(queue, job_id)["status"] == "succeeded"


def test_a_frozen_worker_loses_its_stage_before_its_lease_and_cannot_write(
    queue: Queue, start: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    job_id = submit(queue, (f"fork={tmp_path / 'c'}", f"wait={go}", 'result={"by": 1}'))
    frozen = start()
    child = there(tmp_path / "c")
    os.kill(frozen.pid, signal.SIGSTOP)
    wait_for(lambda: not is_alive(child), "the keeper ends the stage")
    (tmp_path / "c").unlink()
    start()
    there(tmp_path / "c")
    os.kill(frozen.pid, signal.SIGCONT)
    go.touch()
    row = ended(queue, job_id)
    assert (row["status"], row["result"]["result"]) == ("succeeded", {"by": 1})
    assert row["token"] >= 2


def test_a_job_whose_folder_cannot_be_made_fails_with_the_reason(
    settings: Settings, queue: Queue, start: Any
) -> None:
    job_id = submit(queue, ())
    (settings.data_dir / "jobs").write_text("a file, not a folder")
    start()
    row = ended(queue, job_id)
    assert (row["status"], row["error_code"]) == ("failed", "not_writable")
    assert "make it writable" in row["error"]


def test_a_job_that_fills_the_disk_fails_with_the_reason(queue: Queue, start: Any) -> None:
    job_id = submit(queue, ("full",))
    start()
    assert "no space left to write model.gguf" in ended(queue, job_id)["error"]


def test_a_bug_in_a_plan_fails_the_job_and_not_the_worker(queue: Queue, start: Any) -> None:
    bad: str = queue.submit("script", {"note": "bug"})["id"]
    good = submit(queue, ())
    start()
    row = ended(queue, bad)
    assert (row["error_code"], row["error"]) == (
        "internal_error",
        "an internal error (ZeroDivisionError); the worker's log has it",
    )
    assert ended(queue, good)["status"] == "succeeded"
