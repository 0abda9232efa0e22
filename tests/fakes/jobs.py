"""A kind of job whose stages are `stage_program.py` with the actions of its spec, and processes that run
such jobs, forked from a server that has everything imported.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from corral.jobs.kinds import Kind, Kinds, Spec, Stage
from corral.jobs.worker import Worker
from corral.settings import Settings

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.fakes.jobs"])
LEASE = 2.0

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("stage_program.py")


class ScriptSpec(Spec):
    """`stages`: for each stage its actions; `{folder}` in one is the job's folder. The note `bug` makes
    the plan fail."""

    stages: tuple[tuple[str, ...], ...] = ((),)
    note: str = ""


def argv(*actions: str) -> tuple[str, ...]:
    """The command line of a stage that does this."""
    # The program imports tests.fakes, and a stage's folder is not the clone's.
    start = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    )
    return (sys.executable, "-c", start, *actions)


def plan(spec: ScriptSpec, _settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage for each list of actions: `stage-1`, `stage-2` …"""
    if spec.note == "bug":
        raise ZeroDivisionError
    return tuple(
        Stage(f"stage-{number}", argv(*(a.replace("{folder}", str(folder)) for a in actions)))
        for number, actions in enumerate(spec.stages, 1)
    )


KIND = Kind("script", ScriptSpec, plan)
KINDS = Kinds({"script": __name__})


def start_worker(settings: Settings, *, kill_at: int = 0, lease: float = LEASE) -> BaseProcess:
    """A worker process; with `kill_at` it kills itself, -9, at its so-manieth step."""
    process = FORKS.Process(target=work, args=(settings, kill_at, lease))
    process.start()
    return process


def start_now(settings: Settings, stages: Sequence[Sequence[str]]) -> BaseProcess:
    """A process that runs such a job in the foreground, as `corral models …` does."""
    process = FORKS.Process(target=now, args=(settings, stages))
    process.start()
    return process


def work(settings: Settings, kill_at: int, lease: float) -> None:
    """What a worker process does: as `corral worker`."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    steps: list[str] = []

    def at_step(name: str) -> None:
        steps.append(name)
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    Worker(settings, KINDS, lease=lease, poll=0.05, retry_after=0.05, at_step=at_step).run(stopping)


def now(settings: Settings, stages: Any) -> None:
    """What a foreground process does."""
    from corral.jobs.runner import run_now

    run_now(KIND, ScriptSpec(stages=stages), settings, bar=False)
