"""The queue: order, leases, fencing, attempts, cancelling, by the database's clock."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from corral import database
from corral.errors import Conflict, CorralError, NotFound, ToolError
from corral.jobs.clock import now
from corral.jobs.queue import MAX_ATTEMPTS, Lease, LeaseLostError, Note, Queue
from corral.jobs.tables import job_events, jobs
from corral.settings import Settings

FAILURE = ToolError("it broke", code="stage_failed", param="file")


def submit(queue: Queue, **spec: Any) -> str:
    job_id: str = queue.submit("script", spec)["id"]
    return job_id


def claim(queue: Queue) -> Lease:
    lease = queue.claim("test")
    assert lease is not None
    return lease


def run_out(queue: Queue, lease: Lease) -> None:
    """As if the worker had not been heard of for the whole lease."""
    with database.writing(queue._engine) as connection:
        connection.execute(
            update(jobs).where(jobs.c.id == lease.job_id).values(lease_until=now() - 0.001)
        )


def told(queue: Queue, job_id: str) -> list[tuple[str, str]]:
    """Every event's type and text, oldest first."""
    rows, _ = queue.events(job_id, 1000, since=0)
    return [(row["type"], row["text"]) for row in rows]


def test_a_job_goes_from_the_line_to_its_end(queue: Queue) -> None:
    job_id = submit(queue, a=1)
    assert (queue.get(job_id)["status"], queue.get(job_id)["owner"]) == ("queued", "local")
    lease = claim(queue)
    assert (lease.job_id, lease.kind, lease.spec, lease.attempt) == (job_id, "script", {"a": 1}, 1)
    queue.begin_stage(lease, "first", 1, 2)
    assert queue.heartbeat(lease, {"done": 3, "total": 4}) == "nothing"
    queue.note(lease, [Note("warning", "careful")])
    queue.end_stage(lease)
    queue.finish(lease, {"registered": ["x"]})
    row = queue.get(job_id)
    assert (row["status"], row["result"]) == ("succeeded", {"registered": ["x"]})
    assert (row["stage"], row["progress"]) == ("first", {"done": 3, "total": 4})
    assert row["created"] <= row["started"] <= row["finished"] == row["updated"]
    assert told(queue, job_id) == [
        ("status", "queued"),
        ("status", "running"),
        ("stage", "stage first (1 of 2)"),
        ("message", "careful"),
        ("status", "succeeded"),
    ]


def test_the_oldest_job_is_first_and_each_is_claimed_once(queue: Queue) -> None:
    ids = [submit(queue) for _ in range(3)]
    assert [claim(queue).job_id for _ in ids] == ids
    assert queue.claim("test") is None


def test_the_clock_is_the_databases(queue: Queue) -> None:
    with database.reading(queue._engine) as connection:
        told = connection.scalar(select(now()))
    assert told == pytest.approx(time.time(), abs=2)
    assert told != int(told or 0)


def test_a_wrong_clock_of_the_process_changes_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(queue)
    first = claim(queue)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert queue.claim("test") is None
    assert queue.get(first.job_id)["lease_until"] < 4e9


def test_a_worker_that_is_not_heard_of_loses_the_job_and_cannot_write(queue: Queue) -> None:
    job_id = submit(queue)
    stale = claim(queue)
    assert queue.claim("other") is None
    run_out(queue, stale)
    fresh = claim(queue)
    assert (fresh.job_id, fresh.token, fresh.attempt) == (job_id, stale.token + 1, 2)
    writes: list[Callable[[], object]] = [
        lambda: queue.heartbeat(stale),
        lambda: queue.begin_stage(stale, "s", 1, 1),
        lambda: queue.end_stage(stale),
        lambda: queue.note(stale, [Note("info", "x")]),
        lambda: queue.finish(stale, {}),
        lambda: queue.fail(stale, FAILURE),
        lambda: queue.cancelled(stale),
        lambda: queue.retry(stale, FAILURE, 0),
        lambda: queue.give_back(stale),
    ]
    before = dict(queue.get(job_id)), told(queue, job_id)
    for write in writes:
        with pytest.raises(LeaseLostError, match="no longer this worker's"):
            write()
    assert (dict(queue.get(job_id)), told(queue, job_id)) == before
    queue.finish(fresh, {})


def test_a_heartbeat_keeps_the_job_also_when_it_is_late(queue: Queue) -> None:
    submit(queue)
    lease = claim(queue)
    run_out(queue, lease)
    queue.heartbeat(lease)
    assert queue.claim("other") is None


def test_a_job_whose_workers_are_lost_again_and_again_fails(queue: Queue) -> None:
    job_id = submit(queue)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        lease = claim(queue)
        assert lease.attempt == attempt
        run_out(queue, lease)
    assert queue.claim("test") is None
    row = queue.get(job_id)
    assert (row["status"], row["error_code"]) == ("failed", "worker_lost")
    assert "lost 3 times in one stage" in row["error"]
    with pytest.raises(LeaseLostError):
        queue.heartbeat(lease)


def test_a_finished_stage_gives_new_attempts(queue: Queue) -> None:
    submit(queue)
    for _ in range(MAX_ATTEMPTS + 2):
        lease = claim(queue)
        queue.end_stage(lease)
        run_out(queue, lease)
    assert claim(queue).attempt == 2


def test_a_retry_waits_and_is_refused_after_the_last_attempt(queue: Queue) -> None:
    job_id = submit(queue)
    assert queue.retry(claim(queue), FAILURE, delay=60)
    assert queue.claim("test") is None
    assert queue.get(job_id)["status"] == "queued"
    with database.writing(queue._engine) as connection:
        connection.execute(update(jobs).values(not_before=now()))
    assert queue.retry(claim(queue), FAILURE, delay=0)
    assert not queue.retry(claim(queue), FAILURE, delay=0)
    row = queue.get(job_id)
    assert (row["status"], row["error"], row["error_code"], row["error_param"]) == (
        "failed",
        "it broke",
        "stage_failed",
        "file",
    )
    assert ("status", "it broke; trying again") in told(queue, job_id)


def test_a_job_given_back_has_lost_no_attempt(queue: Queue) -> None:
    submit(queue)
    for _ in range(MAX_ATTEMPTS + 1):
        lease = claim(queue)
        assert lease.attempt == 1
        queue.give_back(lease)


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(queue: Queue) -> None:
    job_id = submit(queue)
    assert queue.cancel(job_id)["status"] == "cancelled"
    assert queue.cancel(job_id)["status"] == "cancelled"
    assert queue.claim("test") is None
    assert told(queue, job_id) == [("status", "queued"), ("status", "cancelled")]


def test_a_running_job_is_cancelled_by_its_worker(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    for _ in range(2):
        row = queue.cancel(job_id)
        assert (row["status"], row["cancel_requested"]) == ("running", True)
    assert queue.heartbeat(lease) == "cancel"
    queue.cancelled(lease)
    assert queue.get(job_id)["status"] == "cancelled"
    assert [text for _, text in told(queue, job_id)].count("cancel requested") == 1


def test_a_job_whose_worker_is_lost_is_cancelled_without_it(queue: Queue) -> None:
    first, second = submit(queue), submit(queue)
    run_out(queue, claim(queue))
    assert queue.cancel(first)["status"] == "cancelled"
    lease = claim(queue)
    queue.cancel(second)
    run_out(queue, lease)
    assert queue.claim("test") is None
    assert queue.get(second)["status"] == "cancelled"


def test_a_cancelled_job_that_is_given_back_ends(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    queue.cancel(job_id)
    queue.give_back(lease)
    assert queue.claim("test") is None
    assert queue.get(job_id)["status"] == "cancelled"


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_what_has_ended_stays_as_it_is(queue: Queue, status: str) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    if status == "failed":
        queue.fail(lease, FAILURE)
    else:
        queue.finish(lease, {})
    with pytest.raises(Conflict, match=f"has {status} already"):
        queue.cancel(job_id)
    with pytest.raises(LeaseLostError):
        queue.fail(lease, CorralError("later"))
    assert queue.get(job_id)["status"] == status


def test_jobs_are_listed_newest_first_in_pages(queue: Queue) -> None:
    ids = [submit(queue) for _ in range(5)][::-1]
    page, more = queue.list(2)
    assert ([row["id"] for row in page], more) == (ids[:2], True)
    page, more = queue.list(3, after=ids[1])
    assert ([row["id"] for row in page], more) == (ids[2:], False)
    queue.cancel(ids[3])
    assert [row["id"] for row in queue.list(9, status="cancelled")[0]] == [ids[3]]
    assert queue.list(9, kind="other") == ([], False)
    with pytest.raises(NotFound, match="no job `job_x`"):
        queue.list(2, after="job_x")


def test_events_are_newest_first_in_pages_or_oldest_first_to_follow(queue: Queue) -> None:
    submit(queue)
    lease = claim(queue)
    queue.note(lease, [Note("info", f"m{number}") for number in range(4)])
    page, more = queue.events(lease.job_id, 3)
    assert ([row["text"] for row in page], more) == (["m3", "m2", "m1"], True)
    page, more = queue.events(lease.job_id, 3, before=page[-1]["number"])
    assert ([row["text"] for row in page], more) == (["m0", "running", "queued"], False)
    page, more = queue.events(lease.job_id, 2, since=page[1]["number"])
    assert ([row["text"] for row in page], more) == (["m0", "m1"], True)
    with pytest.raises(NotFound):
        queue.events("job_x", 1)


def test_a_very_long_text_is_cut(queue: Queue) -> None:
    submit(queue)
    lease = claim(queue)
    queue.fail(lease, ToolError("x" * 100_000))
    assert len(queue.get(lease.job_id)["error"]) == 4000


def test_many_claim_at_once_and_each_job_goes_to_one(queue: Queue) -> None:
    ids = [submit(queue) for _ in range(40)]
    taken: list[str] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        while lease := queue.claim("test"):
            taken.append(lease.job_id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_the_migration_makes_what_the_code_expects(queue: Queue, settings: Settings) -> None:
    from sqlalchemy import inspect

    for table in (jobs, job_events):
        made = inspect(queue._engine).get_columns(table.name)
        wanted = [(c.name, c.nullable, str(c.type)) for c in table.columns]
        assert [(c["name"], c["nullable"], str(c["type"])) for c in made] == wanted
        indexes = {i["name"] for i in inspect(queue._engine).get_indexes(table.name)}
        assert {index.name for index in table.indexes} == indexes
