"""What every stage has in common: `--events`, progress, and errors without a traceback.

A stage is one program: files in, files and a manifest out. By hand it draws a bar on stderr and prints its result as JSON on
stdout. `--events FILE` (a worker passes a pipe) gets the same as JSON lines:

    {"type": "progress", "done": 12, "total": 50, "unit": "bytes", "text": "model.gguf"}
    {"type": "message", "level": "info", "text": "…"}
    {"type": "failure", "message": "…", "code": "…", "param": null}
    {"type": "result", "data": {…}}

Exit status: 0 done, 2 bad input, 3 a gate refused the result, 1 anything else. The reason is on stderr after `error: `.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from corral.errors import CorralError

EVENT_SECONDS = 0.25  # progress lines are no closer than this, except the last


class Reporter:
    """Tells how far a stage is. Used by one thread."""

    def __init__(self, events: TextIO | None) -> None:
        self._events, self._last = events, 0.0
        self._bar: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def progress(
        self, done: float, total: float | None, unit: str, text: str = "", **more: float | None
    ) -> None:
        """So many of so many units (`bytes`, `steps`, `chunks`); `text` names what, one bar for each.
        `kept`: so many would survive a kill; always told. `left`: seconds to the stage's end."""
        last = (total is not None and done >= total) or "kept" in more
        if self._events is not None and (last or time.monotonic() - self._last > EVENT_SECONDS):
            self._last = time.monotonic()
            self._write(type="progress", done=done, total=total, unit=unit, text=text, **more)
        elif self._events is None and sys.stderr.isatty():
            self._draw(done, total, unit, text)

    def message(self, text: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """One line for a person; `level` is info or warning. `data`: the same in figures."""
        if self._events is not None:
            self._write(type="message", level=level, text=text, data=data)
        else:
            print(text if level == "info" else f"{level}: {text}", file=sys.stderr, flush=True)

    def failure(self, error: CorralError) -> None:
        """Why there will be no result."""
        if self._events is not None:
            self._write(type="failure", message=error.message, code=error.code, param=error.param)

    def result(self, data: dict[str, Any]) -> None:
        """What the stage made, JSON-ready; once, at its end."""
        if self._events is not None:
            self._write(type="result", data=data)
        else:
            print(json.dumps(data, ensure_ascii=False))

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _write(self, **event: Any) -> None:
        assert self._events is not None
        self._events.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._events.flush()

    def _draw(self, done: float, total: float | None, unit: str, text: str) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._bar.start()
        label = text or unit
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total, at="")
        at = f"{done:,.0f}" + (f" of {total:,.0f}" if total else "") + f" {unit}"
        self._bar.update(self._tasks[label], completed=done, total=total, at=at)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """An argument parser with the module's docstring as help, and `--events`."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--events", type=Path, help="write progress to this file as JSON lines")
    return made


def run(main: Callable[[argparse.Namespace, Reporter], None], args: argparse.Namespace) -> None:
    """Call `main`; an expected error becomes one line on stderr and its exit status."""
    events = args.events.open("a", encoding="utf-8") if args.events else None
    reporter = Reporter(events)
    try:
        main(args, reporter)
    except CorralError as error:
        reporter.close()
        reporter.failure(error)
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        reporter.close()
        if events is not None:
            events.close()
