"""Whatever workers do and wherever they die: never two live leases on a job, no job is lost."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from sqlalchemy import delete, update

from corral import database
from corral.errors import Conflict, ToolError
from corral.jobs.clock import now
from corral.jobs.queue import ENDED, MAX_ATTEMPTS, Lease, LeaseLostError, Note, Queue
from corral.jobs.tables import job_events, jobs
from corral.settings import Settings

WORKERS = st.sampled_from(["one", "two", "three"])


class Claims(RuleBasedStateMachine):
    """Submits, claims, writes and deaths in any order, on the real tables."""

    ids = Bundle("ids")
    leases = Bundle("leases")
    folder = ""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(database.ready(Settings(data_dir=Path(self.folder))))
        with database.writing(self.queue._engine) as connection:
            connection.execute(delete(job_events))
            connection.execute(delete(jobs))
        self.given: dict[str, list[Lease]] = {}
        self.ended: dict[str, str] = {}

    @rule(target=ids)
    def submit(self) -> str:
        job_id: str = self.queue.submit("script", {})["id"]
        self.given[job_id] = []
        return job_id

    @rule(target=leases, worker=WORKERS)
    def claim(self, worker: str) -> Lease | None:
        lease = self.queue.claim(worker)
        if lease is not None:
            assert all(lease.token > earlier.token for earlier in self.given[lease.job_id])
            assert 1 <= lease.attempt <= MAX_ATTEMPTS
            self.given[lease.job_id].append(lease)
        return lease

    @rule(job_id=ids)
    def time_passes(self, job_id: str) -> None:
        """The lease, if any, runs out; a pause before a retry is over."""
        with database.writing(self.queue._engine) as connection:
            change = update(jobs).where(jobs.c.id == job_id)
            connection.execute(change.values(lease_until=now() - 1, not_before=now() - 1))

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        with suppress(Conflict):
            self.queue.cancel(job_id)

    @rule(lease=leases, what=st.sampled_from(["heartbeat", "end_stage", "note"]))
    def write(self, lease: Lease | None, what: str) -> None:
        if lease is not None:
            try:
                self.write_something(lease, what)
            except LeaseLostError:
                return
            assert lease == self.given[lease.job_id][-1]

    def write_something(self, lease: Lease, what: str) -> None:
        if what == "heartbeat":
            self.queue.heartbeat(lease, {"done": 1})
        elif what == "end_stage":
            self.queue.end_stage(lease)
        else:
            self.queue.note(lease, [Note("info", "x")])

    @rule(
        lease=consumes(leases),
        how=st.sampled_from(["finish", "fail", "cancelled", "retry", "give_back"]),
    )
    def end(self, lease: Lease | None, how: str) -> None:
        if lease is None:
            return
        endings: dict[str, Callable[[], object]] = {
            "finish": lambda: self.queue.finish(lease, {}),
            "fail": lambda: self.queue.fail(lease, ToolError("x")),
            "cancelled": lambda: self.queue.cancelled(lease),
            "retry": lambda: self.queue.retry(lease, ToolError("x"), 0),
            "give_back": lambda: self.queue.give_back(lease),
        }
        try:
            endings[how]()
        except LeaseLostError:
            return
        assert lease == self.given[lease.job_id][-1]

    @invariant()
    def at_most_the_newest_lease_is_live(self) -> None:
        for job_id, given in self.given.items():
            live = [lease for lease in given if self.is_live(lease)]
            assert live in ([], given[-1:]), job_id

    @invariant()
    def every_job_is_somewhere_and_an_end_is_for_good(self) -> None:
        rows, more = self.queue.list(1000)
        assert not more
        assert {row["id"] for row in rows} == set(self.given)
        for row in rows:
            assert self.ended.get(row["id"], row["status"]) == row["status"]
            if row["status"] in ENDED:
                self.ended[row["id"]] = row["status"]
                assert row["finished"] is not None

    def is_live(self, lease: Lease) -> bool:
        """Whether the queue would take a write of this lease."""
        try:
            self.queue.note(lease, [])
        except LeaseLostError:
            return False
        return True


class TestClaims(Claims.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=30,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )

    @classmethod
    def setUpClass(cls) -> None:
        Claims.folder = tempfile.mkdtemp()

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(Claims.folder)
