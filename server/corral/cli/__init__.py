"""The `corral` command: the root, and where each noun is registered.

Each noun has a file of its own here. stdout is data, stderr is everything else. Modules under
`corral.cli` import nothing heavy at the top (no FastAPI, no aiohttp, no gguf), so that
`corral --help` stays quick.
"""

import sys

import typer

from corral.cli import (
    data,
    doctor,
    evaluate,
    files,
    finetune,
    jobs,
    keys,
    models,
    serve,
    usage,
    worker,
)
from corral.errors import CorralError

app = typer.Typer(
    name="corral",
    help="Build llama.cpp, fetch, fine-tune, evaluate, quantise and serve GGUF models here.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("worker")(worker.worker)
app.command("evaluate")(evaluate.evaluate)
app.command("usage")(usage.usage)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(finetune.app, name="finetune")
app.add_typer(jobs.app, name="jobs")
app.add_typer(files.app, name="files")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point: an expected error is one message on stderr and its exit code, no traceback."""
    try:
        app()
    except CorralError as error:
        print(f"corral: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
