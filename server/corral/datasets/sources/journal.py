"""A dataset that grows while it is made, and beside it the journal of how.

    OUT           the rows, one JSON object on each line
    OUT.journal   line 1: the settings of the run; then a line for each step: what was done, where
                  its rows came from, and how long OUT was after it; a last line when all is done

A step's rows are on disk before its journal line is. After a cut, whatever follows the last whole
journal line is taken off OUT and that step is done again: no row is lost, none is there twice.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from corral.datasets.strict_json import BadJSON, decode_row, encode
from corral.errors import BadRequest, Conflict, InvalidData

_VERSION = 1


class Journal:
    """Open one with `open_journal`. `past` has the steps of earlier runs; `done` says that an
    earlier run came to its end."""

    def __init__(self, out: Path, handle: int, past: list[dict[str, Any]], size: int) -> None:
        self.out = out
        self.past = [step for step in past if "done" not in step]
        self.done = len(self.past) < len(past)
        self.rows = sum(step.get("rows", 0) for step in self.past)
        self._journal = os.fdopen(handle, "ab")
        self._file = out.open("ab")
        self._file.truncate(size)
        self._size = size

    def add(self, rows: Iterable[bytes], step: dict[str, Any]) -> None:
        """Append a step's rows, then its journal line; both are on disk when this returns."""
        lines = [row + b"\n" for row in rows]
        data = b"".join(lines)
        if data:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._size += len(data)
        self.rows += len(lines)
        self._write({**step, "rows": len(lines), "bytes": self._size})

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the last line."""
        if not self.done:
            self._write({"done": summary, "bytes": self._size})

    def _write(self, line: dict[str, Any]) -> None:
        self._journal.write(encode(line) + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._journal.close()


def journal_path(out: Path) -> Path:
    """Where the journal of a dataset lies."""
    return out.with_name(out.name + ".journal")


def open_journal(
    out: Path, settings: dict[str, Any], *, resume: bool = False, overwrite: bool = False
) -> Journal:
    """Start a dataset, or go on with one.

    `settings` is all that decides which rows come out; going on with other settings is refused.
    Raises BadRequest or Conflict without having changed anything.
    """
    if out.suffix.lower() not in (".jsonl", ".ndjson"):
        raise BadRequest(
            f"{out}: rows are appended as they come, which only JSONL allows; give it the suffix "
            ".jsonl (corral data convert turns it into anything else)",
            param=str(out),
        )
    path = journal_path(out)
    if not resume and not overwrite and (out.exists() or path.exists()):
        raise Conflict(
            f"{out} exists; --resume goes on with it, --overwrite starts again", param=str(out)
        )
    handle = _locked(path, out)
    try:
        if overwrite and not resume:
            os.ftruncate(handle, 0)
        return _opened(out, path, handle, settings, overwrite)
    except BaseException:
        os.close(handle)
        raise


def _locked(path: Path, out: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise InvalidData(
            f"cannot write {path}: {error.strerror}; choose a folder you may write to",
            param=str(out),
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(f"{out} is being written by another run; wait for it, or stop it") from None
    return handle


def _opened(
    out: Path, path: Path, handle: int, settings: dict[str, Any], overwrite: bool
) -> Journal:
    head = {"journal": _VERSION, "settings": settings}
    lines = list(_whole_lines(path))
    if not lines:
        if out.exists() and out.stat().st_size and not overwrite:
            raise InvalidData(
                f"{out} has no journal that says how it was made; use another name, or start "
                "again with --overwrite",
                param=str(out),
            )
        os.ftruncate(handle, 0)
        os.write(handle, encode(head) + b"\n")
        return Journal(out, handle, [], 0)
    (first, _), *rest = lines
    _check_settings(path, first, settings)
    os.ftruncate(handle, lines[-1][1])
    size = rest[-1][0]["bytes"] if rest else 0
    found = out.stat().st_size if out.exists() else 0
    if found < size:
        raise InvalidData(
            f"{out} has {found:,} bytes where its journal says {size:,}: it was changed by other "
            "means; start again with --overwrite",
            param=str(out),
        )
    return Journal(out, handle, [line for line, _ in rest], size)


def _whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each journal line with the place where it ends, up to the first that is not whole."""
    end = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            try:
                line = decode_row(raw[:-1])
            except BadJSON:
                return
            end += len(raw)
            yield line, end


def _check_settings(path: Path, head: dict[str, Any], settings: dict[str, Any]) -> None:
    before = head.get("settings")
    if head.get("journal") != _VERSION or not isinstance(before, dict):
        raise InvalidData(f"{path} is no journal of this version; start again with --overwrite")
    # As JSON has them: tuples are lists there.
    now = decode_row(encode(settings))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        told = ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
        raise Conflict(
            f"{path} belongs to a run with other settings: {told}; give the same ones, or start "
            "again with --overwrite"
        )
