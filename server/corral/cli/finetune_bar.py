"""A running fine-tuning job on a terminal: one line on stderr with step, loss, tokens/s and ETA."""

import sys
from typing import Any, Self

Json = dict[str, Any]


class TrainingBar:
    """Shown on a terminal only. Feed it the job and its metrics as they come."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._figures: Json = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[at]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = None if not sys.stderr.isatty() else self._progress.add_task("", at="")

    def __enter__(self) -> Self:
        if self._task is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._progress.stop()

    def line(self, text: str) -> None:
        """A line on stderr, above the bar."""
        if self._task is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def metrics(self, event: Json) -> None:
        """The figures of a step."""
        self._figures = event["data"]

    def job(self, job: Json) -> None:
        """Where the job is."""
        if self._task is None:
            return
        local = job.get("corral") or {}
        progress, stage = local.get("progress") or {}, local.get("stage") or {}
        description = stage.get("name", job["status"])
        self._progress.update(
            self._task,
            description=f"{description} {stage['number']}/{stage['of']}" if stage else description,
            completed=progress.get("done", 0),
            total=progress.get("total"),
            at=shown(progress, self._figures if stage.get("name") == "train" else {}),
        )


def shown(progress: Json, figures: Json) -> str:
    """`120/280 steps  loss 0.123  5,432 tokens/s  ETA 0:32`; what is not known is left out."""
    parts = []
    if progress:
        of = f"/{progress['total']:,.0f}" if progress.get("total") else ""
        parts.append(f"{progress['done']:,.0f}{of} {progress['unit']}")
    for key, text in (
        ("train_loss", "loss {:.3f}"),
        ("valid_loss", "valid {:.3f}"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
    ):
        if figures.get(key) is not None:
            parts.append(text.format(figures[key]))
    left = progress.get("left")
    if left is not None:
        minutes, seconds = divmod(int(left), 60)
        parts.append(f"ETA {minutes}:{seconds:02}")
    return "  ".join(parts)
