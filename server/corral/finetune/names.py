"""Names: of jobs, events, checkpoints, and of the models that jobs make. Pure."""

import hashlib
import re

from corral.errors import BadRequest, NotFound
from corral.registry.catalog import PROVIDER_PREFIX, allowed_name, tame

JOB, QUEUED, EVENT = "ftjob-", "job_", "ftevent-"
SUFFIX_MAX = 64
# What a checkpoint's name has beyond its model's: `:ckpt-step-9999999`.
CHECKPOINT_MAX = 18
HEX = re.compile(r"[0-9a-f]{24}\Z")
OWNER = "local"


def public_id(queue_id: str) -> str:
    """The id of a job as clients see it."""
    return JOB + queue_id.removeprefix(QUEUED)


def queue_id(job_id: str) -> str:
    """The id in the queue; NotFound when it cannot be a job's."""
    number = job_id.removeprefix(JOB)
    if not (job_id.startswith(JOB) and HEX.match(number)):
        raise unknown_job(job_id)
    return QUEUED + number


def unknown_job(job_id: str, param: str = "fine_tuning_job_id") -> NotFound:
    """There is no such job."""
    return NotFound(
        f"there is no fine-tuning job `{job_id[:80]}`; GET /v1/fine_tuning/jobs lists them",
        param=param,
    )


def event_id(number: int) -> str:
    """The id of the event with this number in the queue."""
    return f"{EVENT}{number}"


def event_number(id: str) -> int:
    """The number in an event's id; BadRequest when it is none."""
    digits = id.removeprefix(EVENT)
    if id.startswith(EVENT) and digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    raise BadRequest(f"`{id[:80]}` is no event's id; it looks like `ftevent-12`", param="after")


def clean_suffix(suffix: str) -> str:
    """The suffix as it stands in a model's name: letters, digits, `.`, `_`, `-`; others become `-`."""
    kept = tame(suffix)
    if kept == "model" and "model" not in suffix:
        raise BadRequest(
            "`suffix` has no letter and no digit of a to z, A to Z, 0 to 9; choose one that has",
            param="suffix",
        )
    return kept


def model_name(base: str, suffix: str, folder: str) -> str:
    """`ft:<base>:local:<suffix, may be empty>:<id>`; the id is of the job whose folder it is."""
    return f"ft:{base}:{OWNER}:{suffix}:{folder.rpartition('_')[2][:8]}"


def whole_name(name: str) -> str:
    """What the merged model is called: a model by itself may have no colons in its name."""
    return tame(name)


def check_length(base: str, suffix: str) -> None:
    """BadRequest when the names of model and checkpoints would be too long."""
    longest = model_name(base, suffix, "x" * 8) + "x" * CHECKPOINT_MAX
    if not allowed_name(longest, "adapter"):
        raise BadRequest(
            f"the model's name would have {len(longest)} characters, 200 are allowed; choose a "
            "shorter `suffix`, or a shorter name for the base",
            param="suffix",
        )


def sent(name: str) -> str:
    """A model's name as it is given to clients: DSPy can use it only with `openai/` before it."""
    return PROVIDER_PREFIX + name


def checkpoint_step(name: str) -> int | None:
    """The step in a checkpoint's name; None when it is no checkpoint's."""
    _, mark, step = name.rpartition(":ckpt-step-")
    return int(step) if mark and step.isdigit() else None


def result_file_id(folder: str, filename: str) -> str:
    """The id of a result file: the same however often its stage is run."""
    return "file-" + hashlib.sha256(f"{folder}/{filename}".encode()).hexdigest()[:24]


def checkpoint_id(folder: str, step: int) -> str:
    """The id of a checkpoint."""
    return "ftckpt_" + hashlib.sha256(f"{folder}/{step}".encode()).hexdigest()[:24]
