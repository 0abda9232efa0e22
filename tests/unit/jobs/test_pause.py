"""Pausing, and what a checkpoint is worth when a worker is lost."""

import threading

import pytest

from corral.errors import Conflict, CorralError
from corral.jobs.events import Message, Progress
from corral.jobs.queue import MAX_ATTEMPTS, Lease, Queue, is_paused
from corral.jobs.runner import Order
from corral.jobs.worker import FIGURES_MAX, JobControl
from tests.unit.jobs.test_queue import claim, run_out, submit, told


def control(queue: Queue, lease: Lease) -> JobControl:
    return JobControl(queue, lease, threading.Event())


def test_nobody_takes_a_paused_job_before_it_is_resumed(queue: Queue) -> None:
    job_id = submit(queue)
    for _ in range(2):
        assert is_paused(queue.pause(job_id))
    assert queue.claim("w") is None
    for _ in range(2):
        assert not is_paused(queue.resume(job_id))
    assert claim(queue).job_id == job_id
    assert [text for _, text in told(queue, job_id)] == ["queued", "paused", "resumed", "running"]


def test_the_worker_of_a_running_job_gives_it_back(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    assert control(queue, lease).order() is Order.GO_ON
    row = queue.pause(job_id)
    assert (row["status"], is_paused(row)) == ("running", True)
    assert control(queue, lease).order() is Order.PAUSE
    queue.give_back(lease)
    row = queue.get(job_id)
    assert (row["status"], row["attempts"], is_paused(row)) == ("queued", 0, True)
    assert queue.claim("w") is None
    assert [text for _, text in told(queue, job_id)][-2:] == ["pause requested", "paused"]


def test_a_pause_taken_back_at_once_changes_nothing(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    queue.pause(job_id)
    queue.resume(job_id)
    assert queue.heartbeat(lease) == "nothing"


def test_a_paused_job_whose_stage_is_killed_or_worker_lost_waits_for_resume(queue: Queue) -> None:
    killed, lost = submit(queue), submit(queue)
    lease = claim(queue)
    queue.pause(killed)
    assert queue.retry(lease, CorralError("killed"), 0)
    run_out(queue, claim(queue))
    queue.pause(lost)
    assert queue.claim("w") is None
    queue.resume(killed)
    queue.resume(lost)
    assert {claim(queue).job_id, claim(queue).job_id} == {killed, lost}


def test_what_has_ended_or_is_being_cancelled_cannot_be_paused(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    queue.cancel(job_id)
    for change in (queue.pause, queue.resume):
        with pytest.raises(Conflict, match="is being cancelled"):
            change(job_id)
    queue.cancelled(lease)
    for change in (queue.pause, queue.resume):
        with pytest.raises(Conflict, match="is cancelled"):
            change(job_id)


def test_a_cancel_goes_before_a_pause(queue: Queue) -> None:
    job_id = submit(queue)
    lease = claim(queue)
    queue.pause(job_id)
    queue.cancel(job_id)
    assert queue.heartbeat(lease) == "cancel"


def test_workers_lost_between_checkpoints_are_counted_anew(queue: Queue) -> None:
    job_id = submit(queue)
    for step in range(2 * MAX_ATTEMPTS):
        lease = claim(queue)
        running = control(queue, lease)
        running.started("train", 1, 1)
        running.progress(Progress(done=step, kept=step))  # where it goes on
        running.order()
        running.progress(Progress(done=step + 1, kept=step + 1))
        running.order()
        assert queue.get(job_id)["attempts"] == 1
        run_out(queue, lease)
    assert queue.get(job_id)["status"] == "running"


def test_going_on_further_than_the_attempt_before_is_progress_too(queue: Queue) -> None:
    """A worker may be lost before it has told of its last checkpoint."""
    job_id = submit(queue)
    for step in range(2 * MAX_ATTEMPTS):
        lease = claim(queue)
        running = control(queue, lease)
        running.started("train", 1, 1)
        running.progress(Progress(done=step, kept=step))
        running.order()
        run_out(queue, lease)
    assert queue.get(job_id)["status"] == "running"


def test_a_training_that_gets_nowhere_fails_all_the_same(queue: Queue) -> None:
    job_id = submit(queue)
    for _ in range(MAX_ATTEMPTS):
        lease = claim(queue)
        running = control(queue, lease)
        running.started("train", 1, 1)
        for done in (7, 8, 9):  # steps, but none of them kept beyond the seventh
            running.progress(Progress(done=done, kept=7))
            running.order()
        run_out(queue, lease)
    assert queue.claim("w") is None
    assert queue.get(job_id)["error_code"] == "worker_lost"


def test_figures_are_events_of_their_own_and_have_their_own_bound(queue: Queue) -> None:
    job_id = submit(queue)
    running = control(queue, claim(queue))
    for step in range(FIGURES_MAX + 2):
        running.message(Message(text=f"step {step}", data={"step": step}))
    running.message(Message(text="done"))
    running.flush()
    newest, _ = queue.events(job_id, 2)
    assert [(row["type"], row["text"]) for row in newest] == [
        ("message", "done"),
        ("metrics", f"step {FIGURES_MAX - 1}"),
    ]
    assert newest[1]["data"] == {"step": FIGURES_MAX - 1}
