"""What clients send and see of jobs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping

from corral.jobs.queue import Level, Status, is_paused
from corral.openapi import Shown

EVENT_PREFIX = "jobevent_"


class JobRequest(BaseModel):
    """`POST /corral/v1/jobs`. What a spec holds is the kind's own affair."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=40)
    spec: dict[str, Any] = Field(default_factory=dict)


class ShownStage(Shown):
    """Which of how many stages runs."""

    name: str
    number: int
    of: int | None


class ShownFault(Shown):
    """Why a job failed."""

    code: str | None
    message: str
    param: str | None


class ShownJob(Shown):
    """`job_object`."""

    id: str
    object: Literal["corral.job"]
    kind: str
    status: Status
    paused: bool
    owner: str
    created_at: int
    updated_at: int
    started_at: int | None
    finished_at: int | None
    attempts: int
    cancel_requested: bool
    stage: ShownStage | None
    progress: dict[str, Any] | None
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: ShownFault | None


class ShownEvent(Shown):
    """`event_object`."""

    id: str
    object: Literal["corral.job.event"]
    created_at: int
    level: Level
    type: str
    message: str
    data: dict[str, Any] | None


def job_object(row: RowMapping) -> dict[str, Any]:
    """A job as the API shows it; times in whole seconds since 1970."""
    stage = {"name": row["stage"], "number": row["stage_number"], "of": row["stages"]}
    error = {"code": row["error_code"], "message": row["error"], "param": row["error_param"]}
    return {
        "id": row["id"],
        "object": "corral.job",
        "kind": row["kind"],
        "status": row["status"],
        "paused": is_paused(row),
        "owner": row["owner"],
        "created_at": int(row["created"]),
        "updated_at": int(row["updated"]),
        "started_at": _seconds(row["started"]),
        "finished_at": _seconds(row["finished"]),
        "attempts": row["attempts"],
        "cancel_requested": row["cancel_requested"],
        "stage": stage if row["stage"] else None,
        "progress": row["progress"],
        "spec": row["spec"],
        "result": row["result"],
        "error": error if row["error"] else None,
    }


def event_object(row: RowMapping) -> dict[str, Any]:
    """An event as the API shows it: `type` is status, stage, message, or metrics (with
    figures in `data`)."""
    return {
        "id": f"{EVENT_PREFIX}{row['number']}",
        "object": "corral.job.event",
        "created_at": int(row["created"]),
        "level": row["level"],
        "type": row["type"],
        "message": row["text"],
        "data": row["data"],
    }


def event_number(event_id: str) -> int | None:
    """The number in an event's id; None when it is no such id."""
    digits = event_id.removeprefix(EVENT_PREFIX)
    good = event_id.startswith(EVENT_PREFIX) and digits.isascii() and digits.isdigit()
    return int(digits) if good and len(digits) < 19 else None


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)
