"""`corral files …`: what was uploaded and what jobs have made. Local, or of the Corral at --url."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from corral.cli import files_api
from corral.cli.options import AsJson, Config, Corral, DataDir

app = typer.Typer(help="Files: list, add, read, delete.", no_args_is_help=True)

FileId = Annotated[str, typer.Argument(metavar="ID", help="From `corral files ls`.")]


class PurposeName(StrEnum):
    """What a file may be for; a test holds this list to `corral.files.schemas`."""

    assistants = "assistants"
    batch = "batch"
    fine_tune = "fine-tune"
    vision = "vision"
    user_data = "user_data"
    evals = "evals"


class AnyPurposeName(StrEnum):
    """The same, and what jobs make."""

    assistants = "assistants"
    assistants_output = "assistants_output"
    batch = "batch"
    batch_output = "batch_output"
    fine_tune = "fine-tune"
    fine_tune_results = "fine-tune-results"
    vision = "vision"
    user_data = "user_data"
    evals = "evals"


@app.command("ls")
def list_files(
    purpose: Annotated[AnyPurposeName | None, typer.Option(help="Only files for this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List files, the newest first."""
    found = files_api.connect(url, data_dir, config).list(limit, purpose.value if purpose else None)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(found)


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="A file of this machine.")],
    purpose: Annotated[PurposeName, typer.Option(help="What it is for.")] = PurposeName.fine_tune,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Keep a copy of a file; prints its id."""
    made = files_api.connect(url, data_dir, config).add(file, purpose.value)
    print(json.dumps(made, indent=2, ensure_ascii=False) if as_json else made["id"])


@app.command("content")
def content(
    file_id: FileId, url: Corral = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Write the bytes of a file to stdout."""
    files_api.connect(url, data_dir, config).read(file_id, sys.stdout.buffer)
    sys.stdout.buffer.flush()


@app.command("rm")
def remove(
    file_id: FileId,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Delete a file; not while a job that has not ended uses it."""
    gone = files_api.connect(url, data_dir, config).remove(file_id)
    if as_json:
        print(json.dumps(gone, indent=2))
    else:
        print(f"{file_id}: deleted", file=sys.stderr)


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("ID", no_wrap=True, min_width=29)
    table.add_column("BYTES", no_wrap=True, justify="right")
    for heading in ("PURPOSE", "CREATED", "EXPIRES", "NAME"):
        table.add_column(heading)
    for file in found:
        table.add_row(
            file["id"],
            f"{file['bytes']:,}",
            file["purpose"],
            _time(file["created_at"]),
            _time(file["expires_at"]) if file["expires_at"] else "",
            Text(file["filename"]),
        )
    Console().print(table)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
