"""`corral finetune …`: jobs that train a model. Local, or of the Corral at --url."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from corral.cli import finetune_api, finetune_recipe
from corral.cli.finetune_api import ENDED, Jobs, follow
from corral.cli.finetune_bar import TrainingBar
from corral.cli.finetune_request import (
    MethodName,
    files_of,
    metadata_of,
    request_of,
    settings_of,
)
from corral.cli.follow import failure
from corral.cli.options import AsJson, Config, Corral, DataDir

app = typer.Typer(
    help="Fine-tune: create, list, show, follow, cancel, pause, resume.", no_args_is_help=True
)
app.command("export-recipe")(finetune_recipe.export_recipe)

JobId = Annotated[str, typer.Argument(metavar="ID", help="From `corral finetune ls`.")]
FileOrId = Annotated[str, typer.Option(metavar="FILE", help="Training rows: a file, or a file id.")]
Json = dict[str, Any]


@app.command("create")
def create(
    model: Annotated[str, typer.Option(help="The model to train.")],
    file: FileOrId,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation rows, likewise.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows to compare before and after on.")
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="A word for the new model's name.")] = None,
    engine: Annotated[str | None, typer.Option(help="peft, unsloth, mlx or llama.cpp.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times over the rows.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat a run with the same.")] = None,
    method: Annotated[MethodName, typer.Option(help="How to train.")] = MethodName.supervised,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other option, like rank=16."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Pairs to find the job by.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Train a model on rows of chat JSONL; prints the new model's name.

    Without --url a worker of this command runs the job. Ctrl-C leaves the job in the queue.
    """
    request = request_of(
        model=model, method=method.value, suffix=suffix, seed=seed, epochs=epochs, engine=engine,
        options=settings_of(set_ or ()), metadata=metadata_of(metadata or ()),
    )  # fmt: skip
    jobs = finetune_api.connect(url, data_dir, config)
    given = {"training_file": file, "validation_file": valid, "evaluation_file": evaluation}
    with files_of(jobs.files, given) as ids:
        if "evaluation_file" in ids:
            request["corral"]["evaluation_file"] = ids.pop("evaluation_file")
        job = jobs.create(request | ids)
    print(f"job {job['id']}", file=sys.stderr)
    if not detach:
        job = _watch(jobs, job["id"], url)
    if as_json:
        print(json.dumps(job, indent=2, ensure_ascii=False))
    elif detach:
        print(job["id"])
    else:
        print(job["fine_tuned_model"].removeprefix("openai/"))


@app.command("ls")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List jobs, the newest first."""
    found = finetune_api.connect(url, data_dir, config).list(limit)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(found)


@app.command("show")
def show(
    job_id: JobId,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show one job: what it trains, where it is, what it made or why it failed."""
    job = finetune_api.connect(url, data_dir, config).get(job_id)
    if as_json:
        print(json.dumps(job, indent=2, ensure_ascii=False))
        return
    for key, value in {**job, **(job.pop("corral", None) or {})}.items():
        if value not in (None, "", {}, [], False) and key != "corral":
            print(f"{key:22} {_text(key, value)}")


@app.command("logs")
def logs(
    job_id: JobId,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Print a job's events, the oldest first; with -f as they come, and a bar on a terminal."""
    jobs = finetune_api.connect(url, data_dir, config)
    with TrainingBar() as bar:
        for item in follow(jobs, job_id, wait=follow_it):
            if item["object"] != "fine_tuning.job.event":
                bar.job(item)
                continue
            if item["type"] == "metrics":
                bar.metrics(item)
            print(json.dumps(item, ensure_ascii=False) if as_json else _line(item), flush=True)


@app.command("cancel")
def cancel(
    job_id: JobId,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Cancel a job; one that runs has ended within 5 s."""
    job = finetune_api.connect(url, data_dir, config).act(job_id, "cancel")
    _answer(job, as_json, "cancelled" if job["status"] == "cancelled" else "cancel requested")


@app.command("pause")
def pause(
    job_id: JobId,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Stop a job with a checkpoint, until `resume`."""
    job = finetune_api.connect(url, data_dir, config).act(job_id, "pause")
    _answer(job, as_json, f"paused; it goes on with: corral finetune resume {job_id}")


@app.command("resume")
def resume(
    job_id: JobId,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Let a paused job go on where it stopped."""
    job = finetune_api.connect(url, data_dir, config).act(job_id, "resume")
    _answer(job, as_json, "goes on as soon as a worker (`corral serve`, `corral worker`) is free")


def _watch(jobs: Jobs, job_id: str, url: str) -> Json:
    """Wait for the end of a job, telling how it goes; the job, or why it did not succeed."""
    job: Json = {}
    try:
        with jobs.working(), TrainingBar() as bar:
            for item in follow(jobs, job_id, wait=True):
                if item["object"] != "fine_tuning.job.event":
                    job = item
                    bar.job(item)
                    continue
                if item["type"] == "metrics":
                    bar.metrics(item)
                bar.line(item["message"])
    except KeyboardInterrupt:
        there = f" --url {url}" if url else ""
        runs = "goes on without you" if url else "goes on with the next `corral worker` or `serve`"
        print(
            f"\ncorral: job {job_id} {runs}; end it with: corral finetune cancel {job_id}{there}",
            file=sys.stderr,
        )
        raise
    if job["status"] != "succeeded":
        raise failure(job)
    return job


def _answer(job: Json, as_json: bool, said: str) -> None:
    if as_json:
        print(json.dumps(job, indent=2, ensure_ascii=False))
    else:
        print(f"{job['id']}: {said}", file=sys.stderr)


def _print_table(found: list[Json]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    # Whole ids, in a narrow window too: they are what the other verbs take.
    table.add_column("ID", no_wrap=True, min_width=30)
    for heading in ("MODEL", "STATUS", "STAGE", "PROGRESS", "CREATED", "FINE-TUNED MODEL"):
        table.add_column(heading)
    for job in found:
        local = job.get("corral") or {}
        stage, progress = local.get("stage"), local.get("progress") or {}
        total = progress.get("total")
        table.add_row(
            job["id"],
            Text(job["model"]),
            "paused" if local.get("paused") else job["status"],
            f"{stage['name']} {stage['number']}/{stage['of']}" if stage else "",
            f"{progress['done'] / total:.0%}" if total and job["status"] not in ENDED else "",
            _time(job["created_at"]),
            Text((job["fine_tuned_model"] or "").removeprefix("openai/")),
        )
    Console().print(table)


def _line(event: Json) -> str:
    return f"{_time(event['created_at'])}  {event['level']:5}  {event['message']}"


def _text(key: str, value: Any) -> str:
    if key.endswith("_at") or key == "estimated_finish":
        return _time(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
