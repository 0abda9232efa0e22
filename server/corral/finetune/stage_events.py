"""What a stage of Corral's own tells through `--events`: the same as scripts/stage.py, which it may
not import. docs/jobs.md describes it."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from corral.errors import CorralError


class Events:
    """The file of `--events`; without one, messages go to stderr and the result to stdout."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None

    def message(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """One line for a person."""
        if self._file:
            self._write(type="message", level=level, text=text)
        else:
            print(text, file=sys.stderr)

    def progress(self, done: int, total: int | None, unit: str, text: str) -> None:
        """So many of so many."""
        if self._file:
            self._write(type="progress", done=done, total=total, unit=unit, text=text)

    def result(self, data: dict[str, Any]) -> None:
        """What the stage made."""
        if self._file:
            self._write(type="result", data=data)
        else:
            print(json.dumps(data, ensure_ascii=False))

    def fail(self, error: CorralError) -> None:
        """End the stage: it has failed."""
        if self._file:
            self._write(type="failure", message=error.message, code=error.code, param=error.param)
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)

    def _write(self, **event: Any) -> None:
        assert self._file is not None
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._file.flush()
