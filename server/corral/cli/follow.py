"""Run a verb as a job of a running Corral, and watch it: what `--url` does."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corral import settings as settings_module
from corral.cli.jobs_api import RemoteJobs
from corral.errors import BadRequest, CorralError, GateError, ToolError


def follow(
    url: str,
    kind: str,
    spec: Mapping[str, Any],
    *,
    bar: bool = True,
    data_dir: Path | None = None,
    config: Path | None = None,
) -> dict[str, Any]:
    """Submit the job and wait for its end; the job's result, `{"registered": [names], "result": …}`.

    A job that fails raises as the verb would have here: GateError (exit code 3) where a gate refused,
    BadRequest (2) for bad input, else ToolError (1). Ctrl-C leaves it running and says how to cancel
    it. The API key is the first of the settings.
    """
    corral = RemoteJobs(url, settings_module.load({"data_dir": data_dir}, config))
    job_id = corral.submit(kind, dict(spec))["id"]
    if bar:
        print(f"job {job_id}", file=sys.stderr)
    try:
        job = _watch(corral, job_id, bar)
    except KeyboardInterrupt:
        print(
            f"\ncorral: job {job_id} goes on without you; end it with: corral jobs cancel {job_id} --url {url}",
            file=sys.stderr,
        )
        raise
    if job["status"] == "succeeded":
        result: dict[str, Any] = job["result"]
        return result
    raise failure(job)


def _watch(corral: RemoteJobs, job_id: str, bar: bool) -> dict[str, Any]:
    from corral.jobs.bar import Bar
    from corral.jobs.events import Message, Progress

    job: dict[str, Any] = {}
    stage = None
    with Bar(shown=bar) as shown:
        for item in corral.follow(job_id, wait=True):
            if item["object"] == "corral.job":
                job = item
                if item["stage"] != stage:
                    stage = item["stage"]
                    shown.close()
                if item["progress"]:
                    shown.progress(Progress(**item["progress"]))
            elif item["type"] == "message" or item["level"] == "warning":
                shown.message(Message(level=item["level"], text=item["message"]))
    return job


def failure(job: dict[str, Any]) -> CorralError:
    """Why a job that has ended did not succeed, as an error with the exit status for it."""
    if job["status"] == "cancelled":
        return ToolError(f"job {job['id']} was cancelled", code="cancelled")
    error = job["error"] or {"message": "no reason was given", "code": None, "param": None}
    kinds = {"gate_refused": GateError, "invalid_request": BadRequest}
    kind = kinds.get(error["code"], ToolError)
    return kind(error["message"], param=error["param"], code=error["code"])
