"""The queue: submit, list, cancel for everyone; claim and the rest for workers.

A claim gives a worker the job for `lease` seconds, and a token; each heartbeat renews the lease. A
worker that has not been heard of for so long has lost the job: the next claim takes it, with the
next token, and what the first one still writes is refused (LeaseLostError). A claim that never ends
a stage counts as an attempt; after MAX_ATTEMPTS of them the job has failed. Times are the
database's. Synchronous, safe in any number of threads and processes.

    queued ──claim──► running ──► succeeded | failed | cancelled
       ▲                 │
       └─ give_back, retry, lease run out

A paused job is one that waits for a time that never comes; its worker gives it back.
"""

import builtins
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    and_,
    case,
    insert,
    or_,
    select,
    true,
    update,
)

from corral.caller import HOUSE
from corral.database import reading, writing
from corral.errors import Conflict, CorralError, NotFound
from corral.jobs.clock import now
from corral.jobs.tables import NEVER, job_events, jobs

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warning", "error"]
# What others want of a running job.
Wanted = Literal["nothing", "cancel", "pause"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
LEASE_SECONDS = 15.0
MAX_ATTEMPTS = 3
TEXT_MAX = 4000


@dataclass(frozen=True)
class Lease:
    """The right to run a job, for as long as nobody has claimed it with a higher token."""

    job_id: str
    token: int
    kind: str
    spec: dict[str, Any]
    attempt: int


@dataclass(frozen=True)
class Note:
    """A line for a person; `data` are figures that go with it."""

    level: Level
    text: str
    data: dict[str, Any] | None = None


class LeaseLostError(CorralError):
    """Another worker has the job, or it has ended; this one must stop and write nothing."""

    default_code = "lease_lost"


def new_id() -> str:
    """An id that no job has."""
    return f"job_{secrets.token_hex(12)}"


class Queue:
    """Jobs in one database. Cheap to make; `engine` must be up to date (`database.ready`)."""

    def __init__(self, engine: Engine, lease: float = LEASE_SECONDS) -> None:
        self._engine, self.lease = engine, lease

    # ---- everyone ------------------------------------------------------------------------------

    def submit(
        self,
        kind: str,
        spec: dict[str, Any],
        *,
        owner: str = HOUSE,
        attempts: int = MAX_ATTEMPTS,
        job_id: str | None = None,
    ) -> RowMapping:
        """Put a job at the end of the line; its row. The spec must have been checked. `job_id`: from
        `new_id`, where the job's folder was made before."""
        values: dict[str, Any] = {
            "id": job_id or new_id(),
            "owner": owner,
            "kind": kind,
            "spec": spec,
            "status": "queued",
            "created": now(),
            "updated": now(),
            "not_before": now(),
            "attempts": 0,
            "max_attempts": attempts,
            "token": 0,
            "cancel_requested": False,
        }
        with writing(self._engine) as connection:
            row = connection.execute(insert(jobs).values(values).returning(jobs)).mappings().one()
            self._note(connection, row["id"], "status", "queued")
        return row

    def get(self, job_id: str, owner: str | None = None) -> RowMapping:
        """The job's row; NotFound, also when it is not this owner's."""
        with reading(self._engine) as connection:
            return self._get(connection, job_id, owner=owner)

    def list(
        self,
        limit: int,
        after: str | None = None,
        status: Status | None = None,
        kind: str | None = None,
        owner: str | None = None,
    ) -> tuple[builtins.list[RowMapping], bool]:
        """At most `limit` jobs, the newest first, from behind the job `after`; and whether more
        follow."""
        query = select(jobs).where(of_owner(jobs.c.owner, owner))
        query = query.order_by(jobs.c.number.desc()).limit(limit + 1)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with reading(self._engine) as connection:
            if after is not None:
                behind = self._get(connection, after, "after", owner)["number"]
                query = query.where(jobs.c.number < behind)
            rows = [*connection.execute(query).mappings()]
        return rows[:limit], len(rows) > limit

    def events(
        self, job_id: str, limit: int, *, before: int | None = None, since: int | None = None
    ) -> tuple[builtins.list[RowMapping], bool]:
        """At most `limit` events and whether there are more: the newest first, below the number
        `before`; or with `since` the oldest first, above that number."""
        query = select(job_events).where(job_events.c.job_id == job_id).limit(limit + 1)
        number = job_events.c.number
        if since is not None:
            query = query.where(number > since).order_by(number)
        else:
            query = query.order_by(number.desc())
        if before is not None:
            query = query.where(number < before)
        with reading(self._engine) as connection:
            self._get(connection, job_id)
            rows = [*connection.execute(query).mappings()]
        return rows[:limit], len(rows) > limit

    def pause(self, job_id: str) -> RowMapping:
        """Let a job wait until `resume`: at once when no worker has it, else its worker stops within
        seconds. Asking again changes nothing; Conflict when it has ended or is being cancelled."""
        with writing(self._engine) as connection:
            row = self._get_open(connection, job_id, "paused")
            if is_paused(row):
                return row
            self._set(connection, job_id, {"not_before": NEVER, "updated": now()})
            text = "paused" if row["status"] == "queued" else "pause requested"
            self._note(connection, job_id, "status", text)
            return self._get(connection, job_id)

    def resume(self, job_id: str) -> RowMapping:
        """Let a paused job go on; nothing happens to one that is not paused. Conflict when it has
        ended or is being cancelled."""
        with writing(self._engine) as connection:
            row = self._get_open(connection, job_id, "resumed")
            if not is_paused(row):
                return row
            self._set(connection, job_id, {"not_before": now(), "updated": now()})
            self._note(connection, job_id, "status", "resumed")
            return self._get(connection, job_id)

    def cancel(self, job_id: str) -> RowMapping:
        """Cancel a job: at once when no worker has it, else its worker ends it within seconds. Asking
        again changes nothing; Conflict when the job has ended otherwise."""
        with writing(self._engine) as connection:
            row = self._get(connection, job_id)
            if row["status"] in ("succeeded", "failed"):
                raise Conflict(
                    f"job {job_id} has {row['status']} already; only a job that is queued or running "
                    "can be cancelled",
                    code="job_ended",
                )
            if row["status"] == "cancelled" or row["cancel_requested"]:
                self._reap(connection, jobs.c.id == job_id)
                return self._get(connection, job_id)
            asked = update(jobs).where(jobs.c.id == job_id, jobs.c.status.not_in(ENDED))
            connection.execute(asked.values(cancel_requested=True, updated=now()))
            self._reap(connection, jobs.c.id == job_id)
            row = self._get(connection, job_id)
            if row["status"] == "running":
                self._note(connection, job_id, "status", "cancel requested")
            return row

    # ---- workers -------------------------------------------------------------------------------

    def claim(self, worker: str) -> Lease | None:
        """The oldest job that waits, or whose worker is not heard of any more; None when there is
        none. `worker` names who asks."""
        if not self._waiting():
            return None  # an idle worker takes no write lock
        with writing(self._engine) as connection:
            self._reap(connection)
            row = connection.execute(self._take(worker)).mappings().one_or_none()
            if row is None:
                return None
            attempt = f", attempt {row['attempts']}" if row["attempts"] > 1 else ""
            self._note(connection, row["id"], "status", f"running{attempt}")
            return Lease(row["id"], row["token"], row["kind"], row["spec"], row["attempts"])

    def heartbeat(
        self, lease: Lease, progress: dict[str, Any] | None = None, *, kept_more: bool = False
    ) -> Wanted:
        """Renew the lease, store the progress if there is any; what others want of the job. With
        `kept_more` (a checkpoint was written) attempts are counted anew."""
        values: dict[str, Any] = {"lease_until": now() + self.lease}
        if progress is not None:
            values |= {"progress": progress, "updated": now()}
        if kept_more:
            values["attempts"] = 1
        with writing(self._engine) as connection:
            row = self._write(connection, lease, values)
        if row["cancel_requested"]:
            return "cancel"
        return "pause" if is_paused(row) else "nothing"

    def begin_stage(
        self, lease: Lease, stage: str, number: int, stages: int
    ) -> dict[str, Any] | None:
        """A stage begins: number so of so many. One that begins again keeps its progress, which is given
        back: how far the attempt before was."""
        values = {"stage": stage, "stage_number": number, "stages": stages, "updated": now()}
        with writing(self._engine) as connection:
            before = self._get(connection, lease.job_id)
            again = before["stage"] == stage and before["stage_number"] == number
            self._write(connection, lease, values if again else {**values, "progress": None})
            self._note(connection, lease.job_id, "stage", f"stage {stage} ({number} of {stages})")
        return before["progress"] if again else None

    def end_stage(self, lease: Lease) -> None:
        """A stage has ended well: attempts are counted anew."""
        with writing(self._engine) as connection:
            self._write(connection, lease, {"attempts": 1, "updated": now()})

    def note(self, lease: Lease, messages: Sequence[Note]) -> None:
        """Store lines for a person, as events; those with data are of the type `metrics`."""
        with writing(self._engine) as connection:
            self._write(connection, lease, {"updated": now()})
            for note in messages:
                type = "message" if note.data is None else "metrics"
                self._note(connection, lease.job_id, type, note.text, note.level, note.data)

    def finish(self, lease: Lease, result: dict[str, Any]) -> None:
        """The job has succeeded."""
        self._end(lease, "succeeded", {"result": result}, "info", "succeeded")

    def fail(self, lease: Lease, error: CorralError) -> None:
        """The job has failed for good."""
        message = error.message[:TEXT_MAX]
        values = {"error": message, "error_code": error.code, "error_param": error.param}
        self._end(lease, "failed", values, "error", message)

    def cancelled(self, lease: Lease) -> None:
        """The job was ended because somebody cancelled it."""
        self._end(lease, "cancelled", {}, "info", "cancelled")

    def retry(self, lease: Lease, error: CorralError, delay: float) -> bool:
        """Put the job back for another attempt after `delay` seconds; False, and the job has failed,
        when it has had all its attempts."""
        with writing(self._engine) as connection:
            row = self._write(connection, lease, {"updated": now()})
            last = row["attempts"] >= row["max_attempts"]
            if not last:
                values: dict[str, Any] = {"status": "queued", "lease_until": None}
                if not is_paused(row):
                    values["not_before"] = now() + delay
                self._write(connection, lease, values)
                text = f"{error.message}; trying again"[:TEXT_MAX]
                self._note(connection, lease.job_id, "status", text, "warning")
        if last:
            self.fail(lease, error)
        return not last

    def give_back(self, lease: Lease) -> None:
        """Put the job back, the attempt not counted: it is paused, or the worker ends; nothing is wrong."""
        values = {"status": "queued", "lease_until": None, "attempts": jobs.c.attempts - 1}
        with writing(self._engine) as connection:
            row = self._write(connection, lease, values)
            text = "paused" if is_paused(row) else "queued: its worker was stopped"
            self._note(connection, lease.job_id, "status", text)

    # ---- inside ----------------------------------------------------------------------------------

    def _waiting(self) -> bool:
        open_jobs = select(jobs.c.number).where(_nobody_has()).limit(1)
        with reading(self._engine) as connection:
            return connection.scalar(open_jobs) is not None

    def _take(self, worker: str) -> Any:
        oldest = (
            select(jobs.c.number)
            .where(_nobody_has())
            .order_by(jobs.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        values: dict[Any, Any] = {
            "status": "running",
            "worker": worker,
            "token": jobs.c.token + 1,
            "attempts": jobs.c.attempts + 1,
            "lease_until": now() + self.lease,
            "started": case((jobs.c.started.is_(None), now()), else_=jobs.c.started),
            "updated": now(),
        }
        return update(jobs).where(jobs.c.number == oldest).values(values).returning(jobs)

    def _reap(self, connection: Connection, which: ColumnElement[bool] | None = None) -> None:
        """End the jobs that no worker has and that nobody shall go on with: cancelled ones, and
        those that have had all their attempts."""
        nobody_has = or_(jobs.c.status == "queued", _abandoned())
        asked = jobs.c.cancel_requested
        spent = and_(_abandoned(), jobs.c.attempts >= jobs.c.max_attempts)
        told = "its worker was lost {} times in one stage; the worker's log may say why"
        for reaped, status, error in ((asked, "cancelled", None), (spent, "failed", told)):
            chosen = select(jobs.c.number, jobs.c.id, jobs.c.attempts).where(nobody_has, reaped)
            if which is not None:
                chosen = chosen.where(which)
            chosen = chosen.with_for_update(skip_locked=True)
            for row in connection.execute(chosen).mappings().all():
                text = error.format(row["attempts"]) if error else None
                values = {
                    "status": status,
                    "finished": now(),
                    "updated": now(),
                    "lease_until": None,
                    "token": jobs.c.token + 1,
                    "error": text,
                    "error_code": "worker_lost" if text else None,
                }
                ended = update(jobs).where(jobs.c.number == row["number"])
                connection.execute(ended.values(values))
                self._note(
                    connection, row["id"], "status", text or status, "error" if text else "info"
                )

    def _end(
        self, lease: Lease, status: Status, values: dict[str, Any], level: Level, text: str
    ) -> None:
        values = {**values, "status": status, "finished": now(), "updated": now()}
        with writing(self._engine) as connection:
            self._write(connection, lease, {**values, "lease_until": None})
            self._note(connection, lease.job_id, "status", text, level)

    def _write(self, connection: Connection, lease: Lease, values: dict[str, Any]) -> RowMapping:
        """Change the job if it is still this lease's."""
        held = and_(
            jobs.c.id == lease.job_id, jobs.c.token == lease.token, jobs.c.status == "running"
        )
        change = update(jobs).where(held).values(values).returning(jobs)
        row = connection.execute(change).mappings().one_or_none()
        if row is None:
            raise LeaseLostError(f"job {lease.job_id} is no longer this worker's")
        return row

    def _note(
        self,
        connection: Connection,
        job_id: str,
        type: str,
        text: str,
        level: Level = "info",
        data: dict[str, Any] | None = None,
    ) -> None:
        values = {"job_id": job_id, "type": type, "level": level, "text": text[:TEXT_MAX]}
        figures = {} if data is None else {"data": data}
        connection.execute(insert(job_events).values({**values, **figures, "created": now()}))

    def _set(self, connection: Connection, job_id: str, values: dict[str, Any]) -> None:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))

    def _get_open(self, connection: Connection, job_id: str, verb: str) -> RowMapping:
        """The job's row; Conflict unless it is queued or running, and not being cancelled."""
        row = self._get(connection, job_id)
        if row["status"] in ENDED or row["cancel_requested"]:
            state = row["status"] if row["status"] in ENDED else "being cancelled"
            raise Conflict(
                f"job {job_id} has {state} already; only a job that is queued or running can be {verb}"
                if row["status"] in ("succeeded", "failed")
                else f"job {job_id} is {state}; only a job that is queued or running can be {verb}",
                code="job_ended",
            )
        return row

    def _get(
        self,
        connection: Connection,
        job_id: str,
        param: str = "job_id",
        owner: str | None = None,
    ) -> RowMapping:
        found = select(jobs).where(jobs.c.id == job_id, of_owner(jobs.c.owner, owner))
        row = connection.execute(found).mappings().one_or_none()
        if row is None:
            raise NotFound(
                f"there is no job `{job_id}`; GET /corral/v1/jobs or `corral jobs ls` lists them",
                param=param,
            )
        return row


def of_owner(column: ColumnElement[str], owner: str | None) -> ColumnElement[bool]:
    """Only what is this owner's; None: everybody's."""
    return true() if owner is None else column == owner


def owner_of(engine: Engine, job_id: str) -> str:
    """Whose job it is; the house's where it never was in the queue, as of the command line."""
    with reading(engine) as connection:
        found = connection.scalar(select(jobs.c.owner).where(jobs.c.id == job_id))
    return HOUSE if found is None else str(found)


def is_paused(row: RowMapping) -> bool:
    """Whether the job waits for `resume`; one that runs is about to stop."""
    return row["status"] not in ENDED and bool(row["not_before"] >= NEVER)


def _nobody_has() -> ColumnElement[bool]:
    """It waits for a worker, or has lost its own, and may be taken now."""
    return and_(or_(jobs.c.status == "queued", _abandoned()), jobs.c.not_before <= now())


def _abandoned() -> ColumnElement[bool]:
    return and_(jobs.c.status == "running", jobs.c.lease_until < now())
