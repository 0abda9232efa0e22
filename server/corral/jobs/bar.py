"""Show a running job on a terminal: a bar for each thing that progresses, messages as lines, on stderr."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from corral.jobs import events
from corral.jobs.runner import Order


class Bar:
    """The control of a foreground run, which goes on until it is done. Without a terminal only the
    messages are printed; with `shown` off nothing is."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the bars; what was drawn stays."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()

    def started(self, stage: str, number: int, stages: int) -> None:
        """A stage begins: its bars stand under those of the one before."""
        self.close()

    def finished(self, stage: str) -> None:
        """A stage has ended."""
        self.close()

    def order(self) -> Order:
        """Always to go on: Ctrl-C is how a foreground run ends."""
        return Order.GO_ON

    def message(self, message: events.Message) -> None:
        """One line."""
        if not self._shown:
            return
        text = message.text if message.level == "info" else f"{message.level}: {message.text}"
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, progress: events.Progress) -> None:
        """Move, or begin, the bar of `progress.text`."""
        if not (self._shown and sys.stderr.isatty()):
            return
        bars = self._bars()
        label = progress.text or progress.unit
        if label not in self._tasks:
            self._tasks[label] = bars.add_task(label, total=progress.total, at="")
        of = f" of {progress.total:,.0f}" if progress.total else ""
        at = f"{progress.done:,.0f}{of} {progress.unit}"
        speed = next(task.speed for task in bars.tasks if task.id == self._tasks[label])
        if progress.unit == "bytes" and speed:
            at += f", {speed / 1e6:,.1f} MB/s"
        bars.update(self._tasks[label], completed=progress.done, total=progress.total, at=at)

    def _bars(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[at]}", markup=False),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.start()
        return self._progress
