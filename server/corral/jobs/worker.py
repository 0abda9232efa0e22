"""A worker: claims jobs one after another and runs them, until it is told to stop.

It may be killed at any moment: its stage is killed with it, its lease runs out, and the next claim
goes on from the last finished stage. One that stands still (a debugger, a frozen machine) loses its
stage before it loses its lease, so that no job ever runs twice at once.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corral import database
from corral.errors import CorralError, DiskFullError
from corral.jobs import runner
from corral.jobs.events import Message, Progress
from corral.jobs.kinds import Kinds
from corral.jobs.queue import ENDED, LEASE_SECONDS, Lease, LeaseLostError, Note, Queue
from corral.jobs.runner import Interrupted, Order, Runner, StageKilledError
from corral.registry.blobs import AtStep
from corral.registry.disk import ignore
from corral.settings import Settings

log = logging.getLogger("corral.worker")

POLL_SECONDS = 0.5
# A killed stage is tried again after this; a machine short of memory may have recovered by then.
RETRY_SECONDS = 2.0
# The stage of a worker that stands still is killed when this share of its lease has passed.
SILENT_SHARE = 0.8
# Messages kept of one run of a job, and figures: a stage that floods them must not fill the database.
MESSAGES_MAX = 1000
FIGURES_MAX = 5000
ORDERS = {"cancel": Order.CANCEL, "pause": Order.PAUSE}


class Worker:
    """Runs the jobs of one data directory. `poll` and `retry_after` are in seconds; `at_step` is called
    with a step's name right after it, so that tests can kill the process there."""

    def __init__(
        self,
        settings: Settings,
        kinds: Kinds,
        *,
        lease: float = LEASE_SECONDS,
        poll: float = POLL_SECONDS,
        retry_after: float = RETRY_SECONDS,
        at_step: AtStep = ignore,
    ) -> None:
        self._settings, self._kinds = settings, kinds
        self._at_step = at_step
        self._poll, self._retry_after = poll, retry_after
        self._queue = Queue(database.ready(settings), lease)
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._jobs = settings.data_dir / "jobs"

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; a job that runs then is given back."""
        self._tidy()
        log.info("worker started", extra={"worker": self._name})
        while not stopping.is_set():
            try:
                lease = self._queue.claim(self._name)
            except CorralError as error:
                log.error("cannot claim: %s", error.message)
                lease = None
            if lease is None:
                stopping.wait(self._poll)
            else:
                self._work(lease, stopping)
        log.info("worker stopped", extra={"worker": self._name})

    def _work(self, lease: Lease, stopping: threading.Event) -> None:
        log.info("job claimed", extra={"job": lease.job_id, "kind": lease.kind})
        self._at_step("job claimed")
        folder = self._jobs / lease.job_id
        try:
            result = self._run(lease, folder, stopping)
        except LeaseLostError as lost:
            log.warning(lost.message)
        except Interrupted as interrupted:
            self._interrupted(lease, folder, interrupted.order)
        except StageKilledError as error:
            self._killed(lease, folder, error)
        except CorralError as error:
            self._fail(lease, folder, error)
        # The edge of a job: a bug in a plan must fail that job, not the worker.
        except Exception as error:
            log.exception("a bug", extra={"job": lease.job_id})
            message = f"an internal error ({type(error).__name__}); the worker's log has it"
            self._fail(lease, folder, CorralError(message))
        else:
            self._settle(lease, folder, lambda: self._queue.finish(lease, result))

    def _run(self, lease: Lease, folder: Path, stopping: threading.Event) -> dict[str, Any]:
        kind = self._kinds.find(lease.kind)
        spec = kind.parse(lease.spec)
        runner.prepare(folder, kind.name, spec)
        self._at_step("folder made")
        control = JobControl(self._queue, lease, stopping)
        silence = self._queue.lease * SILENT_SHARE
        running = Runner(folder, self._settings, control, silence, self._at_step)
        result = running.run(kind.plan(spec, self._settings, folder))
        control.flush()
        return result

    def _interrupted(self, lease: Lease, folder: Path, order: Order) -> None:
        if order is Order.CANCEL:
            self._settle(lease, folder, lambda: self._queue.cancelled(lease))
        elif order in (Order.STOP, Order.PAUSE):
            self._store(lease, lambda: self._queue.give_back(lease))
        else:
            log.warning("job let go: its lease could not be renewed", extra={"job": lease.job_id})

    def _killed(self, lease: Lease, folder: Path, error: StageKilledError) -> None:
        again: list[bool] = []
        self._store(lease, lambda: again.append(self._queue.retry(lease, error, self._retry_after)))
        if again == [False]:
            runner.clear(folder)

    def _fail(self, lease: Lease, folder: Path, error: CorralError) -> None:
        log.warning("job failed: %s", error.message, extra={"job": lease.job_id})
        if error.code == DiskFullError.default_code:
            runner.clear(
                folder
            )  # first: a database on a full disk takes no word of how the job ended
        self._settle(lease, folder, lambda: self._queue.fail(lease, error))

    def _settle(self, lease: Lease, folder: Path, write: Callable[[], None]) -> None:
        """Store how the job ended, then remove what it needs no more."""
        if self._store(lease, write):
            self._at_step("end stored")
            runner.clear(folder)
            self._at_step("folder cleared")

    def _store(self, lease: Lease, write: Callable[[], None]) -> bool:
        """Write to the queue, again and again while the database cannot be used, as long as the
        lease holds; whether it was written."""
        end = time.monotonic() + self._queue.lease
        while True:
            try:
                write()
            except LeaseLostError as lost:
                log.warning(lost.message)
                return False
            except CorralError as error:
                log.error("cannot store how job %s ended: %s", lease.job_id, error.message)
                if time.monotonic() > end:
                    return False
                time.sleep(self._poll)
            else:
                return True

    def _tidy(self) -> None:
        """Remove what workers have left that were killed right after a job had ended."""
        runner.clear_abandoned(self._jobs)
        for folder in self._jobs.glob("job_*") if self._jobs.is_dir() else ():
            if any((folder / name).exists() for name in runner.NEEDED_WHILE_OPEN):
                try:
                    status = self._queue.get(folder.name)["status"]
                except CorralError:
                    continue  # of another database, or it cannot be read now: not ours to remove
                if status in ENDED:
                    runner.clear(folder)


class JobControl:
    """Tells the queue how a run goes: at most once a second, whatever the stage says."""

    def __init__(self, queue: Queue, lease: Lease, stopping: threading.Event) -> None:
        self._queue, self._lease, self._stopping = queue, lease, stopping
        self._stage: dict[str, Any] = {}
        self._progress: dict[str, Any] | None = None
        self._kept: float | None = None
        self._kept_more = False
        self._messages: list[Note] = []
        self._said = self._figures = 0
        self._renewed = time.monotonic()

    def started(self, stage: str, number: int, stages: int) -> None:
        """A stage begins."""
        self.flush()
        self._progress, self._kept_more = None, False
        before = self._queue.begin_stage(self._lease, stage, number, stages)
        self._kept = (before or {}).get("kept")

    def progress(self, progress: Progress) -> None:
        """Kept until the next heartbeat; only the last counts."""
        # The first of a stage says where it goes on, which is news when the attempt before was not as far.
        if self._kept is not None and progress.kept is not None:
            self._kept_more |= progress.kept > self._kept
        self._kept = progress.kept if progress.kept is not None else self._kept
        self._progress = progress.model_dump(exclude={"type"}, exclude_none=True)

    def message(self, message: Message) -> None:
        """Kept until the next heartbeat."""
        if message.data is not None:
            self._figures += 1
            if self._figures <= FIGURES_MAX:
                self._messages.append(Note(message.level, message.text, message.data))
            return
        self._said += 1
        if self._said < MESSAGES_MAX:
            self._messages.append(Note(message.level, message.text))
        elif self._said == MESSAGES_MAX:
            self._messages.append(Note("warning", "further messages are in the stage's log only"))

    def finished(self, stage: str) -> None:
        """A stage has ended."""
        self.flush()
        self._queue.end_stage(self._lease)

    def order(self) -> Order:
        """Renew the lease, and see what others want of the job."""
        try:
            self.flush()
            wanted = self._queue.heartbeat(self._lease, self._progress, kept_more=self._kept_more)
        except LeaseLostError:
            return Order.LET_GO
        except CorralError as error:
            log.error("no heartbeat: %s", error.message)
            silent = time.monotonic() - self._renewed
            return Order.LET_GO if silent > self._queue.lease * SILENT_SHARE else Order.WAIT
        self._progress, self._renewed = None, time.monotonic()
        self._kept_more = False
        if wanted in ORDERS:
            return ORDERS[wanted]
        return Order.STOP if self._stopping.is_set() else Order.GO_ON

    def flush(self) -> None:
        """Store the messages that are kept."""
        if self._messages:
            self._queue.note(self._lease, self._messages)
            self._messages = []
