"""Rows of the queue as OpenAI's objects. Pure. Times are whole seconds since 1970."""

from typing import Any, Literal

from sqlalchemy import RowMapping

from corral.finetune.names import OWNER, event_id, public_id, sent
from corral.finetune.schemas import Options
from corral.finetune.spec import TRAIN, VALIDATE, Spec
from corral.jobs.queue import ENDED, Status, is_paused
from corral.openapi import Shown

# What is still to come after training, until it is known better.
TAIL_SECONDS = 10
BEFORE_TRAINING = (VALIDATE, "render", "render-valid")
STAGES = {
    "validate": "Validating files",
    "render": "Rendering the training rows as serving will see them",
    "render-valid": "Rendering the validation rows",
    "train": "Training",
    "parity": "Checking that serving sees what training saw",
    "evaluate": "Measuring the tuned model against the one before",
    "merge": "Merging the adapter into the base",
    "quantize": "Quantising the merged model",
    "gate": "Measuring what quantising lost",
    "wandb-1": "Reporting to Weights & Biases",
    "results": "Storing the result files",
    "register": "Registering the model",
}
LEVELS = {"warning": "warn"}


class ShownJobError(Shown):
    """Why a job failed."""

    code: str | None
    message: str
    param: str | None


class ShownFineTuningJob(Shown):
    """`job_object`."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Status | Literal["validating_files"]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    seed: int
    error: ShownJobError | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    user_provided_suffix: str | None
    corral: dict[str, Any]


class ShownJobEvent(Shown):
    """`event_object`."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class ShownCheckpoint(Shown):
    """`checkpoint_object`."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, Any]


class DeletedModel(Shown):
    """The answer to DELETE of a fine-tuned model."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


def status_of(row: RowMapping) -> str:
    """One of OpenAI's six words. A paused job is `queued`, for DSPy knows no other."""
    if is_paused(row):
        return "queued"
    if row["status"] == "running" and row["stage"] in (None, VALIDATE):
        return "validating_files"
    return str(row["status"])


def job_object(row: RowMapping) -> dict[str, Any]:
    """A job."""
    spec = Spec.model_validate(row["spec"])
    done = (row["result"] or {}).get("result", {}) if row["status"] == "succeeded" else {}
    return {
        "id": public_id(row["id"]),
        "object": "fine_tuning.job",
        "created_at": int(row["created"]),
        "finished_at": None if row["finished"] is None else int(row["finished"]),
        "estimated_finish": _estimate(row),
        "model": spec.start or spec.model,
        "fine_tuned_model": sent(done["fine_tuned_model"]) if done else None,
        "organization_id": OWNER,
        "status": status_of(row),
        "training_file": spec.training_file,
        "validation_file": spec.validation_file,
        "result_files": done.get("result_files", []),
        "trained_tokens": done.get("trained_tokens"),
        "hyperparameters": _hyperparameters(spec, done),
        "method": _method(spec, done),
        "seed": spec.seed,
        "error": _error(row),
        "integrations": [each.model_dump(exclude_none=True) for each in spec.integrations],
        "metadata": spec.metadata,
        "user_provided_suffix": spec.suffix or None,
        "corral": _local(row, spec, done),
    }


def event_object(row: RowMapping, job: RowMapping) -> dict[str, Any]:
    """An event of this job."""
    return {
        "id": event_id(row["number"]),
        "object": "fine_tuning.job.event",
        "created_at": int(row["created"]),
        "level": LEVELS.get(row["level"], row["level"]),
        "message": _text(row, job),
        "type": "metrics" if row["type"] == "metrics" else "message",
        "data": row["data"] or {},
    }


def checkpoint_object(made: dict[str, Any], row: RowMapping) -> dict[str, Any]:
    """A checkpoint of this job, as its results have it."""
    return {
        "id": made["id"],
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(row["finished"]),
        "fine_tuned_model_checkpoint": sent(made["name"]),
        "fine_tuning_job_id": public_id(row["id"]),
        "step_number": made["step"],
        "metrics": made["metrics"],
    }


def _estimate(row: RowMapping) -> int | None:
    """When a running job will have ended, as soon as training can tell."""
    if row["status"] != "running" or row["stage"] is None or is_paused(row):
        return None
    progress = row["progress"] or {}
    if row["stage"] == TRAIN and progress.get("unit") != "files":
        left = progress.get("left")
        return None if left is None else int(row["updated"] + left + TAIL_SECONDS)
    return None if row["stage"] in BEFORE_TRAINING else int(row["updated"] + TAIL_SECONDS)


def _hyperparameters(spec: Spec, done: dict[str, Any]) -> dict[str, Any]:
    epochs = spec.n_epochs
    if epochs is None and float(done.get("n_epochs") or 0.5).is_integer():
        epochs = int(done["n_epochs"])
    found = {
        "n_epochs": epochs,
        "batch_size": spec.batch_size,
        "learning_rate_multiplier": spec.learning_rate_multiplier,
    }
    found |= {"beta": spec.beta} if spec.method == "dpo" else {}
    return {name: "auto" if value is None else value for name, value in found.items()}


def _method(spec: Spec, done: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": spec.method,
        spec.method: {"hyperparameters": _hyperparameters(spec, done)},
    }


def _error(row: RowMapping) -> dict[str, Any] | None:
    if not row["error"]:
        return None
    return {"code": row["error_code"], "message": row["error"], "param": row["error_param"]}


def _local(row: RowMapping, spec: Spec, done: dict[str, Any]) -> dict[str, Any]:
    """What OpenAI's object has no place for."""
    stage = {"name": row["stage"], "number": row["stage_number"], "of": row["stages"]}
    return {
        "base": spec.model,
        "paused": is_paused(row),
        "stage": stage if row["stage"] and row["status"] not in ENDED else None,
        "progress": row["progress"] if row["status"] not in ENDED else None,
        "options": _changed(spec.options),
        "training": done.get("training"),
        "evaluation": done.get("evaluation"),
        "whole_models": done.get("whole_models", []),
    }


def _changed(options: Options) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude_defaults=True)


def _text(row: RowMapping, job: RowMapping) -> str:
    """The queue's words as OpenAI's."""
    text = str(row["text"])
    if row["type"] == "stage":
        name = text.removeprefix("stage ").partition(" ")[0]
        return STAGES.get(name, text)
    if row["type"] != "status":
        return text
    if text == "queued":
        return f"Created fine-tuning job: {public_id(job['id'])}"
    if text == "succeeded":
        made = job["result"]["result"]["fine_tuned_model"]
        return f"The job has successfully completed; the new model is {sent(made)}"
    return {
        "running": "Fine-tuning job started",
        "cancelled": "Fine-tuning job cancelled",
        "paused": "Fine-tuning job paused; it goes on where it stopped when it is resumed",
        "resumed": "Fine-tuning job resumed",
    }.get(text, text)
