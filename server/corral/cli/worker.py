"""`corral worker`: run jobs until told to stop. `corral serve` starts one by itself."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from corral import settings as settings_module

DataDir = Annotated[Path | None, typer.Option(help="Data directory (jobs, models, logs).")]
Config = Annotated[Path | None, typer.Option(help="Settings file; see corral.example.toml.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]


def worker(data_dir: DataDir = None, config: Config = None, log_level: LogLevel = None) -> None:
    """Run queued jobs, one at a time, in the foreground. Any number of workers share one queue.

    Ctrl-C and SIGTERM end the stage that runs and give the job back.
    """
    flags = {"data_dir": data_dir, "log_level": log_level}
    settings = settings_module.load(flags, config)
    from corral import log
    from corral.finetune import KINDS as FINETUNE
    from corral.jobs.worker import Worker
    from corral.shelf import KINDS as SHELF

    log.setup(settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    Worker(settings, SHELF.beside(FINETUNE)).run(stopping)
