"""Workers beside `corral serve`: one process each, started again when it dies, gone when serve is."""

import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from corral.errors import CorralError
from corral.jobs.process import Kept
from corral.jobs.stage_log import LOG_MAX_BYTES
from corral.log import trim
from corral.settings import Settings, corral_environment

log = logging.getLogger("corral.worker")

WORKER = (sys.executable, "-m", "corral", "worker")
POLL_SECONDS = 0.2
# Between a worker's death and its next start; doubled with each death, up to the last.
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
# A worker that has lived so long starts again without a longer pause.
STEADY_SECONDS = 60.0


class WorkerChildren:
    """`count` workers, each under a keeper: kill -9 of this process ends them and their stages."""

    def __init__(self, settings: Settings, count: int, argv: Sequence[str] = WORKER) -> None:
        self._argv, self._environment = argv, corral_environment(settings)
        self._log = settings.logs_dir / "worker.log"
        self._stopping = threading.Event()
        self._grace = settings.stop_timeout / 2
        self._threads = [threading.Thread(target=self._keep, daemon=True) for _ in range(count)]

    @classmethod
    def of(cls, settings: Settings) -> "WorkerChildren":
        """Those that the settings ask for; none on a machine that is only a gateway."""
        return cls(settings, settings.worker_count if settings.role == "all" else 0)

    def start(self) -> None:
        """Start them; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them: they give their jobs back within half of `stop_timeout`, else are killed."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            lived = self._one_life()
            if self._stopping.is_set():
                return
            pause = FIRST_PAUSE if lived >= STEADY_SECONDS else pause
            log.error("a worker ended; %s says why; starting it again in %g s", self._log, pause)
            self._stopping.wait(pause)
            pause = min(pause * 2, LAST_PAUSE)

    def _one_life(self) -> float:
        """Run one worker until it ends or is to stop; how many seconds it lived."""
        try:
            kept = self._start(self._log)
        except (CorralError, OSError) as error:
            log.error("cannot start a worker: %s", error)
            return 0.0
        polls = 0
        while kept.child.poll() is None and not self._stopping.wait(POLL_SECONDS):
            polls += 1
            trim(self._log, LOG_MAX_BYTES)
        if kept.child.poll() is None:
            kept.stop(self._grace)
        else:
            kept.kill()
        return polls * POLL_SECONDS

    def _start(self, log_file: Path) -> Kept:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as output:
            return Kept.start(self._argv, self._environment, output)
