"""`corral jobs …`: what runs, what has run, and why it failed. Local, or of the Corral at --url."""

import json
import sys
import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from corral.cli import jobs_api
from corral.cli.options import AsJson, Config, DataDir

app = typer.Typer(help="Jobs: list, show, follow, cancel.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="From `corral jobs ls`.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", "--corral", help="A running Corral; without it, the local data directory."
    ),
]


class StatusName(StrEnum):
    """The states of a job; a test holds this list to `corral.jobs.queue.Status`."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


@app.command("ls")
def list_jobs(
    status: Annotated[StatusName | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List jobs, the newest first."""
    state = status.value if status else None
    found = jobs_api.connect(url, data_dir, config).list(limit, state)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(found)


@app.command("show")
def show(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show one job: its spec, its state, its result or why it failed."""
    job = jobs_api.connect(url, data_dir, config).show(job_id)
    if as_json:
        print(json.dumps(job, indent=2, ensure_ascii=False))
        return
    for key, value in job.items():
        if value not in (None, "", {}):
            print(f"{key:16} {_text(key, value)}")


@app.command("logs")
def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Print a job's events, oldest first. Exit code as `corral jobs show` would tell: 0."""
    for item in jobs_api.connect(url, data_dir, config).follow(job_id, wait=follow):
        if as_json:
            print(json.dumps(item, ensure_ascii=False), flush=True)
        elif item["object"] == "corral.job.event":
            print(f"{_time(item['created_at'])}  {item['level']:7}  {item['message']}", flush=True)


@app.command("cancel")
def cancel(
    job_id: JobId,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Cancel a job that is queued or running."""
    job = jobs_api.connect(url, data_dir, config).cancel(job_id)
    if as_json:
        print(json.dumps(job, indent=2, ensure_ascii=False))
    elif job["status"] == "running":
        print(f"{job_id}: cancel requested; its worker ends it within 5 s", file=sys.stderr)
    else:
        print(f"{job_id}: {job['status']}", file=sys.stderr)


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("ID", "KIND", "STATUS", "STAGE", "PROGRESS", "SUBMITTED"):
        # Whole ids, in a narrow window too: they are what the other verbs take.
        table.add_column(
            heading, no_wrap=heading == "ID", min_width=28 if heading == "ID" else None
        )
    for job in found:
        stage = job["stage"]
        where = f"{stage['name']} {stage['number']}/{stage['of']}" if stage else ""
        submitted = _time(job["created_at"])
        table.add_row(job["id"], job["kind"], job["status"], where, _progress(job), submitted)
    Console().print(table)


def _progress(job: dict[str, Any]) -> str:
    progress = job["progress"]
    if not progress or job["status"] != "running":
        return ""
    if progress["total"]:
        return f"{progress['done'] / progress['total']:.0%}"
    return f"{progress['done']:,.0f} {progress['unit']}"


def _text(key: str, value: Any) -> str:
    if key.endswith("_at"):
        return _time(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
