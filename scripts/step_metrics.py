"""The step metrics as OpenAI's result file has them, kept right through kills and resumes."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import safe_files

COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


class MetricsFile:
    """`metrics.csv`: one row for each step; a column without a figure at that step is empty."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Open for going on after `last_step`; rows of later steps, from a run that was killed, go."""
        self.path = path
        kept = [row for row in read(path) if int(row["step"]) <= last_step] if path.exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        safe_files.write(path, text.getvalue().encode())
        with safe_files.room(path):
            self._file = path.open("a", encoding="utf-8", newline="")

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Append one step."""
        row = {name: format(value, ".6g") for name, value in figures.items()}
        with safe_files.room(self.path):
            csv.DictWriter(self._file, COLUMNS, lineterminator="\n").writerow(
                {"step": step} | {name: row.get(name, "") for name in COLUMNS[1:]}
            )
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def openai_names(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of a step under the names that OpenAI's events and checkpoints have."""
    names = {"train_accuracy": "train_mean_token_accuracy"}
    return {names.get(name, name): round(value, 6) for name, value in figures.items()}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; a last line that a kill cut short is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if row["step"].isdigit()]


def curve(path: Path, column: str) -> list[tuple[int, float]]:
    """(step, figure) of every step that has one."""
    return [(int(row["step"]), float(row[column])) for row in read(path) if row.get(column)]
