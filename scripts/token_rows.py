"""Token rows: a data set as the ids that training sees, written once and memory-mapped by every engine.

A folder of three files:

    rows.json      what the rows are and how many; written last, so a folder without it is unfinished
    tokens.bin     ids of all examples, one after the other, int32; a learned id is stored as ~id
    examples.bin   for each example: one past its last id, its line in the source file, learned ids

A preference is two examples in a row: chosen, rejected.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np

import safe_files
from corral.errors import InvalidData

Kind = Literal["chat", "preference"]
EXAMPLE = np.dtype([("end", "<i8"), ("line", "<i4"), ("learned", "<i4")])
FORMAT = 1


class TokenRow(NamedTuple):
    """Ids (int64, [n]) and which of them are learned (bool, [n])."""

    ids: np.ndarray
    learned: np.ndarray


class TokenRows:
    """The rows of one folder. Raises InvalidData when it holds none or is unfinished."""

    def __init__(self, folder: Path) -> None:
        try:
            self.facts: dict[str, Any] = json.loads((folder / "rows.json").read_text("utf-8"))
            self._tokens: np.ndarray = np.memmap(folder / "tokens.bin", np.dtype("<i4"), mode="r")
            self._examples = np.fromfile(folder / "examples.bin", EXAMPLE)
        except (OSError, ValueError) as error:
            raise InvalidData(
                f"{folder} holds no token rows ({error}); make them with scripts/render_data.py",
                param=str(folder),
            ) from None
        if self.facts.get("format") != FORMAT or self._sizes() != self._promised():
            raise InvalidData(
                f"{folder} is damaged or of another version: {self._sizes()} (examples, tokens), "
                f"rows.json says {self._promised()}; run scripts/render_data.py again",
                param=str(folder),
            )
        self.kind: Kind = self.facts["kind"]
        self.lines: np.ndarray = self._examples["line"]
        self.learned: np.ndarray = self._examples["learned"]
        self.lengths: np.ndarray = np.diff(self._examples["end"], prepend=0)

    def _sizes(self) -> tuple[int, int]:
        return len(self._examples), len(self._tokens)

    def _promised(self) -> tuple[int, int]:
        return self.facts.get("examples", 0), self.facts.get("tokens", 0)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> TokenRow:
        end = int(self._examples["end"][index])
        stored = np.asarray(self._tokens[end - int(self.lengths[index]) : end]).astype(np.int64)
        return TokenRow(np.where(stored < 0, ~stored, stored), stored < 0)


class TokenWriter:
    """Writes a folder of token rows; only `finish` makes it one. Use with `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: list[tuple[int, int, int]] = []
        self._total = 0
        with safe_files.room(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "rows.json").unlink(missing_ok=True)
            self._file = (folder / "tokens.bin").open("wb")

    def add(self, ids: list[int], learned: list[bool], line: int) -> None:
        """One example."""
        mask, stored = np.array(learned, bool), np.array(ids, "<i4")
        with safe_files.room(self._folder):
            self._file.write(np.where(mask, ~stored, stored).tobytes())
        self._total += len(ids)
        # The first token has nothing before it to be learned from.
        self._ends.append((self._total, line, int(mask[1:].sum())))

    def finish(self, kind: Kind, facts: dict[str, Any]) -> dict[str, Any]:
        """Close the files and write rows.json; what it says."""
        examples = np.array(self._ends, EXAMPLE)
        said = facts | {
            "format": FORMAT,
            "kind": kind,
            "examples": len(examples),
            "tokens": self._total,
            "learned_tokens": int(examples["learned"].sum()),
            "longest": int(np.diff(examples["end"], prepend=0).max(initial=0)),
        }
        with safe_files.room(self._folder):
            self._file.close()
            safe_files.write(self._folder / "examples.bin", examples.tobytes())
            safe_files.write(self._folder / "rows.json", json.dumps(said, indent=1).encode())
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._file.close()
