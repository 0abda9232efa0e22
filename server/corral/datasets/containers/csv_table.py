"""CSV and TSV: a header, then one row a record. Nested values are JSON text in their cell."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral.datasets.containers import cells
from corral.datasets.containers.output import Writer
from corral.datasets.findings import Place, shown
from corral.datasets.strict_json import MAX_ROW_BYTES, encode

csv.field_size_limit(MAX_ROW_BYTES)


def read(path: Path, place: Place) -> Iterator[dict[str, Any]]:
    """The good rows; an empty cell of a JSON column is an absent key."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            place.move(line)
            try:
                cells_read = next(reader, None)
            except csv.Error as error:
                place.error(
                    "", "bad_csv", f"{error}; quote cells with line breaks, double quotes in them"
                )
                continue
            if cells_read is None:
                return
            if header is None:
                header = cells_read
                if not _good_header(header, place):
                    return
            elif cells_read:
                yield from _row(header, cells_read, place)


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(65536)
    return max("\t,;", key=first.count) if any(mark in first for mark in "\t,;") else ","


def _good_header(header: list[str], place: Place) -> bool:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated or "" in header:
        found = f"column {sorted(repeated)[0]!r} twice" if repeated else "a column without a name"
        place.error("", "bad_header", f"found {found}; the first line names each column once")
    return not place.bad


def _row(header: list[str], found: list[str], place: Place) -> Iterator[dict[str, Any]]:
    if len(found) != len(header):
        place.error("", "bad_csv", f"found {len(found)} cells; the header has {len(header)}")
        return
    value: dict[str, Any] = {}
    for column, text in zip(header, found, strict=True):
        if not text.isascii() and any("\ud800" <= mark <= "\udfff" for mark in text):
            place.error(column, "not_utf8", "bytes that are not UTF-8; save the file as UTF-8")
        elif "\0" in text:
            place.error(column, "nul_character", "holds the character U+0000; remove it")
        elif text or column not in cells.ALWAYS_JSON:
            value[column] = cells.parse_cell(column, text, place)
    if not place.bad:
        yield value


class CSVWriter(Writer):
    """The first row decides the columns, plus those that its format always has."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self._place = place
        self._columns: list[str] = []
        self._text = io.TextIOWrapper(self.file, encoding="utf-8", newline="", write_through=True)
        mark = "\t" if path.suffix.lower() == ".tsv" else ","
        self._csv = csv.writer(self._text, delimiter=mark, lineterminator="\n")

    def write(self, value: dict[str, Any]) -> bool:
        if not self._columns:
            self._columns = _columns(value)
            self._csv.writerow(self._columns)
        for key in value.keys() - set(self._columns):
            self._place.loss(key, "csv_column", "the first row has no such column; not written")
        self._csv.writerow([self._cell(column, value.get(column)) for column in self._columns])
        self.rows += 1
        return True

    def finish(self) -> None:
        self._text.flush()

    def _cell(self, column: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            if cells.is_json_cell(column, value):
                self._place.loss(
                    column, "csv_ambiguous", f"the text {shown(value)} would be read back as JSON"
                )
            return value
        if column not in cells.ALWAYS_JSON | cells.SOMETIMES_JSON:
            self._place.note(column, "csv_text", "CSV has only text; written as JSON text")
        return encode(value).decode()


# Optional keys that a later row may have although the first has not.
_COMPANIONS = {
    "messages": ("tools",),
    "conversations": ("system", "tools"),
    "instruction": ("input", "output", "system", "history"),
    "contents": ("systemInstruction", "tools"),
}


def _columns(value: dict[str, Any]) -> list[str]:
    columns = list(value)
    for key, others in _COMPANIONS.items():
        if key in value:
            columns += [name for name in others if name not in value]
    return columns
