"""What is so at the moment in which /metrics is asked: slots, queues, instances, jobs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from corral.errors import CorralError
from corral.gateway.admission import Admission
from corral.metrics import Now
from corral.runtime.upstream import Runtime

# Jobs by kind and status, from the database; called in a thread.
JobCounts = Callable[[], Mapping[tuple[str, str], int]]
JOBS_SECONDS = 1.0


class Gauges:
    """Reads off the live state. A database that is slow or away leaves the jobs out, no more."""

    def __init__(self, runtime: Runtime, admission: Admission, job_counts: JobCounts) -> None:
        self._runtime = runtime
        self._admission = admission
        self._job_counts = job_counts
        self._counting: asyncio.Future[Mapping[tuple[str, str], int]] | None = None

    async def now(self) -> Now:
        """The state of this moment."""
        states = (await self._runtime.readiness()).sections
        jobs = await self._jobs()
        layout = self._runtime.serving.layout
        slots = {section.name: int(section.options["parallel"]) for section in layout.sections}
        return Now(
            running=self._admission.running(),
            waiting=self._admission.waiting(),
            slots=slots,
            busy=dict.fromkeys(slots, 0) | self._admission.busy(),
            states=Counter(states.values()),
            jobs=jobs,
        )

    async def _jobs(self) -> Mapping[tuple[str, str], int]:
        # One count at a time: a database that hangs must not fill the threads with scrapes.
        if self._counting is None:
            self._counting = asyncio.ensure_future(asyncio.to_thread(self._job_counts))
            self._counting.add_done_callback(self._counted)
        counting = self._counting
        await asyncio.wait({counting}, timeout=JOBS_SECONDS)
        if not counting.done() or isinstance(counting.exception(), CorralError):
            return {}
        return counting.result()

    def _counted(self, _: object) -> None:
        self._counting = None
