"""SIGKILL during fine-tuning: on worker, trainer and server, at every stage boundary and at random
moments of training. The job ends with the very adapter of one that nobody disturbed, and nothing is left.

Needs the `train` group and a built llama.cpp; about ten minutes. Prints what was counted.
"""

import contextlib
import csv
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral import database
from corral.files.store import Files
from corral.finetune import KINDS
from corral.finetune.service import FineTuning
from corral.jobs.keeper import _marked
from corral.jobs.queue import ENDED, Queue
from corral.jobs.worker import Worker
from corral.registry.gguf_header import read_header
from corral.registry.manifest import Manifest
from corral.registry.store import Registry
from corral.settings import Settings
from tests.e2e.corral_process import CorralProcess, processes

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
SPAWN = multiprocessing.get_context("spawn")
LEASE = 2.0
KILLS = 20
# Long enough that training outlasts the kills on idle cores.
EPOCHS = 30
# Seconds of training, at most, before the next kill; drawn with a fixed seed.
LONGEST = 1.5
PATIENCE = 900
STAGES = 6  # of a job without an evaluation
BOUNDARIES = ("stage begun", "stage ended", "stage stored", "stage marked")


def settings_of(folder: Path) -> Settings:
    return Settings(data_dir=folder / "data")


def submit(settings: Settings, folder: Path, epochs: int, **options: Any) -> str:
    """A job over forty rows; its id in the queue."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(HELD_OUT.read_text().splitlines()[:40]) + "\n")
    file = Files(settings).add_local(path, filename="rows.jsonl", purpose="fine-tune")
    path.unlink()
    job = FineTuning.of(settings).create(
        {
            "model": "corral-tiny",
            "training_file": file.id,
            "seed": 5,
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": epochs}},
            },
            "corral": {"batch_tokens": 2048, "rank": 8, "checkpoint_seconds": 0, **options},
        }
    )
    return str(job["id"]).replace("ftjob-", "job_")


def wait(what: str, look: Callable[[], Any], patience: float = PATIENCE) -> Any:
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {patience:g} s"
        time.sleep(0.1)
    return found


def ended(settings: Settings, job_id: str) -> Any:
    queue = Queue(database.ready(settings))

    def look() -> Any:
        row = queue.get(job_id)
        return row if row["status"] in ENDED else None

    return wait(f"{job_id} ends", look)


def manifests(settings: Settings, row: Any) -> list[dict[str, Any]]:
    """The manifests of what a job has made, without what may differ: names, times, speed."""
    assert row["status"] == "succeeded", row["error"]
    name = row["result"]["result"]["fine_tuned_model"]
    made = [a.manifest for a in Registry(settings).list() if a.name.startswith(name)]
    assert [manifest.revision for manifest in made] == [1] * len(made)
    weights = [weights_of(Registry(settings).get(manifest.name).weights) for manifest in made]
    return [compared(m, name) | {"weights": w} for m, w in zip(made, weights, strict=True)]


def weights_of(adapter: Path) -> str:
    """The sum of an adapter's weights: the rest of the file says its name."""
    data = adapter.read_bytes()
    return hashlib.sha256(data[read_header(adapter).data_start :]).hexdigest()


def compared(manifest: Manifest, name: str) -> dict[str, Any]:
    shown = manifest.model_dump(mode="json", exclude={"created", "metrics", "files"})
    training = dict(manifest.metrics["training"])
    for figure in ("seconds", "tokens_per_second"):
        training.pop(figure)
    return shown | {"name": manifest.name.removeprefix(name), "training": training}


def check_nothing_is_left(settings: Settings, job_ids: list[str]) -> dict[str, int]:
    """No process and no file that belongs to nobody; how many there are."""
    pids = [pid for job_id in job_ids for pid in _marked(f"_CORRAL_JOB={job_id}".encode())]
    folders = [p for j in job_ids for p in (settings.data_dir / "jobs" / j).iterdir()]
    counts = {
        "processes": len(pids),
        "blobs": len(Registry(settings).gc(dry_run=True).removed),
        "files": len(Files(settings).sweep()),
        "left in job folders": sum(p.name not in ("logs", "spec.json") for p in folders),
    }
    assert not any(counts.values()), counts
    assert Registry(settings).verify() == []
    return counts


def check_metrics(settings: Settings, row: Any) -> None:
    """Every step once, in order."""
    file_id = row["result"]["result"]["result_files"][0]
    with Files(settings).path(file_id).open(newline="") as file:
        steps = [int(line["step"]) for line in csv.DictReader(file)]
    assert steps == [*range(1, row["result"]["result"]["training"]["steps"] + 1)]


# ---- at stage boundaries ---------------------------------------------------------------------------


def work(settings: Settings, boundary: str, skip: int) -> None:
    """A worker that kills itself at a boundary, after `skip` of that sort; without one it goes on."""
    seen = [0]

    def at_step(name: str) -> None:
        seen[0] += name == boundary
        if boundary and seen[0] > skip:
            os.kill(os.getpid(), signal.SIGKILL)

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    Worker(settings, KINDS, lease=LEASE, poll=0.1, retry_after=0.1, at_step=at_step).run(stopping)


def worker(settings: Settings, boundary: str = "", skip: int = 0) -> Any:
    process = SPAWN.Process(target=work, args=(settings, boundary, skip))
    process.start()
    return process


def stop(process: Any) -> None:
    process.terminate()
    process.join(20)
    process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """The manifests of a job that nobody disturbs, by its epochs."""
    made: dict[int, Any] = {}

    def of(epochs: int) -> Any:
        if epochs not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            settings = settings_of(folder)
            job_id = submit(settings, folder, epochs, evaluate=False)
            process = worker(settings)
            try:
                made[epochs] = manifests(settings, ended(settings, job_id))
            finally:
                stop(process)
        return made[epochs]

    return of


def test_a_worker_killed_at_every_boundary_of_every_stage(
    tmp_path: Path, undisturbed: Callable[[int], Any]
) -> None:
    settings = settings_of(tmp_path)
    job_id = submit(settings, tmp_path, 1, evaluate=False)
    queue = Queue(database.ready(settings))
    killed: list[str] = []
    for boundary in ("job claimed", "folder made", *BOUNDARIES * STAGES, "end stored"):
        process = worker(settings, boundary)
        try:
            wait("the worker kills itself", lambda p=process: not p.is_alive())  # type: ignore[misc]
        finally:
            stop(process)
        assert process.exitcode == -signal.SIGKILL
        killed.append(f"{queue.get(job_id)['stage']}: {boundary}")
    # After `end stored` the worker has nothing to claim: what it has left is tidied by the next one.
    process = worker(settings)
    row = ended(settings, job_id)
    wait("tidied", lambda: not (settings.data_dir / "jobs" / job_id / "out").exists(), 30)
    stop(process)
    assert manifests(settings, row) == undisturbed(1)
    check_metrics(settings, row)
    print(f"\n{len(killed)} kills: {killed}")
    print("left:", check_nothing_is_left(settings, [job_id]))


# ---- on a full disk --------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=128m", "corral-test", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"this test needs root and mount(8): {done.stderr}"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_becomes_full_fails_the_job_with_the_reason(disk: Path) -> None:
    settings = settings_of(disk)
    job_id = submit(settings, disk, 20, evaluate=False)
    queue = Queue(database.ready(settings))
    process = worker(settings)
    try:
        wait("training goes on", lambda: trained(queue, job_id))
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        # For the database: while it cannot be written, a job can only wait for room.
        os.truncate(disk / "filler", (disk / "filler").stat().st_size - 1024 * 1024)
        row = ended(settings, job_id)
        assert (row["status"], row["error_code"]) == ("failed", "disk_full")
        assert "no space left" in row["error"].lower()
        wait("tidied", lambda: not (settings.data_dir / "jobs" / job_id / "work").exists(), 30)
    finally:
        stop(process)
    (disk / "filler").unlink()
    assert Registry(settings).list() == []
    print("\nleft:", check_nothing_is_left(settings, [job_id]))


# ---- at random moments -----------------------------------------------------------------------------


class Victims:
    """A running Corral, and the processes of its job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.process = CorralProcess(folder).__enter__()

    def kill(self, whom: str) -> None:
        """SIGKILL; a killed server is started again."""
        pid = {"server": lambda: self.process.child.pid, "worker": self._worker,
               "trainer": self._trainer}[whom]()  # fmt: skip
        os.kill(pid, signal.SIGKILL)
        if whom == "server":
            self.process.child.wait()
            self.process.__exit__()
            self.process = CorralProcess(self._folder).__enter__()

    def _worker(self) -> int:
        keepers = self._of("keeper.py", "corral worker")
        return next(pid for pid, argv in keepers if "keeper.py" not in argv)

    def _trainer(self) -> int:
        found = self._of("finetune_lora.py")
        return next(pid for pid, argv in found if "keeper.py" not in argv)

    def kill_stage(self) -> bool:
        """SIGKILL to the program of the stage that runs; whether there was one."""
        for pid, argv in self._of("/scripts/"):
            if "keeper.py" not in argv:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _of(self, *words: str) -> list[tuple[int, str]]:
        own = str(self._folder / "data").encode()
        return [
            (pid, argv)
            for pid, _, argv in processes()
            if any(word in argv for word in words) and own in _environment(pid)
        ]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_server_and_program_killed_in_every_stage(
    tmp_path: Path, undisturbed: Callable[[int], Any]
) -> None:
    settings = settings_of(tmp_path)
    victims = Victims(tmp_path)
    job_id = submit(settings, tmp_path, 1, evaluate=False)
    queue = Queue(database.ready(settings))
    killed: dict[str, set[str]] = {"server": set(), "program": set()}
    try:
        while (row := queue.get(job_id))["status"] not in ENDED:
            stage = row["stage"] if row["status"] == "running" else None
            if stage and stage not in killed["server"]:
                victims.kill("server")
                killed["server"].add(stage)
            elif stage and stage not in killed["program"] and victims.kill_stage():
                killed["program"].add(stage)
            time.sleep(0.02)
        assert manifests(settings, row) == undisturbed(1)
        check_metrics(settings, row)
        victims.process.stop()
    finally:
        victims.process.__exit__()
    print(f"\nkilled: {killed}")
    print("left:", check_nothing_is_left(settings, [job_id]))
    assert len(killed["server"]) == STAGES
    assert not victims._of("corral", "llama-server")


def test_20_kills_at_random_moments_of_training(
    tmp_path: Path, undisturbed: Callable[[int], Any]
) -> None:
    settings = settings_of(tmp_path)
    draw = random.Random(20)
    victims = Victims(tmp_path)
    job_id = submit(settings, tmp_path, EPOCHS, evaluate=False)
    queue = Queue(database.ready(settings))
    killed: list[tuple[str, int]] = []
    whom = ["worker", "trainer", "server"] * KILLS
    try:
        while len(killed) < KILLS:
            step = wait("training goes on", lambda: trained(queue, job_id), 300)
            time.sleep(draw.uniform(0, LONGEST))
            row = queue.get(job_id)
            assert row["status"] == "running", (row["status"], row["error"], killed)
            assert row["stage"] == "train", f"trained too fast for {KILLS} kills: {killed}"
            victims.kill(whom[len(killed)])
            killed.append((whom[len(killed)], step))
            mark(queue, job_id)
        row = ended(settings, job_id)
        assert manifests(settings, row) == undisturbed(EPOCHS)
        check_metrics(settings, row)
        served = {model["id"] for model in victims.process.get("/v1/models")[1]["data"]}
        assert row["result"]["result"]["fine_tuned_model"] in wait("served", lambda: served)
        victims.process.stop()
    finally:
        victims.process.__exit__()
    print(f"\n{len(killed)} kills (whom, after step): {json.dumps(killed)}")
    print("left:", check_nothing_is_left(settings, [job_id]))
    assert not victims._of("corral", "llama-server")


_last: dict[str, int] = {}


def mark(queue: Queue, job_id: str) -> None:
    """Remember the newest event: training goes on when there is a newer step."""
    _last[job_id] = queue.events(job_id, 1)[0][0]["number"]


def trained(queue: Queue, job_id: str) -> int:
    """The newest step since the last kill; 0 when there is none yet."""
    assert queue.get(job_id)["status"] not in ENDED, queue.get(job_id)["error"]
    for event in queue.events(job_id, 5)[0]:
        if event["number"] > _last.get(job_id, 0) and event["type"] == "metrics":
            return int(event["data"]["step"])
    return 0
