"""Tables need all rows before the first is written: only then are their columns known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets.containers import cells
from corral.datasets.containers.output import Writer
from corral.datasets.findings import Place
from corral.datasets.strict_json import encode


class TableWriter(Writer):
    """Rows go to a spool beside the file; `finish` of a container turns them into a table."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self.place = place
        self._spool = self.temporary.with_suffix(".spool")
        self._spool_file = self._spool.open("wb", buffering=1 << 20)

    def see(self, value: dict[str, Any]) -> None:
        """Take note of a row's columns."""

    def write(self, value: dict[str, Any]) -> bool:
        self.see(value)
        self._spool_file.write(encode(value) + b"\n")
        self.rows += 1
        return True

    def spooled(self) -> Iterator[dict[str, msgspec.Raw]]:
        """The rows, each value as its exact JSON text."""
        self._spool_file.close()
        with self._spool.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=dict[str, msgspec.Raw])

    def __exit__(self, *details: Any) -> None:
        self._spool_file.close()
        self._spool.unlink(missing_ok=True)
        super().__exit__(*details)


def row_text(pairs: Iterator[tuple[str, str]]) -> bytes:
    """The JSON text of a table's row, from its columns and each value's JSON text."""
    fields = (f"{encode(name).decode()}:{text}" for name, text in pairs)
    return ("{" + ",".join(fields) + "}").encode("utf-8", "surrogateescape")


def cell_text(column: str, text: str) -> str:
    """A text cell's JSON text: as it stands when the column holds JSON, else as a string."""
    if cells.is_json_cell(column, text):
        return text
    # Bytes that are not UTF-8 come as surrogates, which go back to bytes and are then refused.
    return '"' + text.translate(_ESCAPES) + '"'


_ESCAPES = {number: f"\\u{number:04x}" for number in range(32)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}
