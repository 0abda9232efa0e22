"""CSV and TSV: a header, then one row a record. Nested values are JSON text in their cell."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets.containers import cells
from corral.datasets.containers.jsonl import parse
from corral.datasets.containers.spooled import TableWriter, cell_text, row_text
from corral.datasets.findings import Place, shown
from corral.datasets.strict_json import MAX_ROW_BYTES

csv.field_size_limit(MAX_ROW_BYTES)


def read(path: Path, place: Place) -> Iterator[dict[str, Any]]:
    """The good rows; an empty cell is an absent key."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            place.move(line)
            try:
                found = next(reader, None)
            except csv.Error as error:
                hint = "quote cells with line breaks, double the quotes in them"
                place.error("", "bad_csv", f"{error}; {hint}")
                continue
            if found is None:
                return
            if header is None:
                header = found
                if not _good_header(header, place):
                    return
            elif found:
                value = _row(header, found, place)
                if value is not None:
                    yield value


def _delimiter(path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(65536)
    return max(",;\t", key=first.count)


def _good_header(header: list[str], place: Place) -> bool:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated or "" in header:
        found = f"column {sorted(repeated)[0]!r} twice" if repeated else "a column without a name"
        place.error("", "bad_header", f"found {found}; the first line names each column once")
    return not place.bad


def _row(header: list[str], found: list[str], place: Place) -> dict[str, Any] | None:
    if len(found) != len(header):
        place.error("", "bad_csv", f"found {len(found)} cells; the header has {len(header)}")
        return None
    filled = [(column, text) for column, text in zip(header, found, strict=True) if text]
    for column, text in filled:
        if cells.is_json_cell(column, text) and not _is_json(text):
            place.error(column, "bad_cell", f"found {shown(text)}; this column holds JSON text")
            return None
    place.raw = row_text((column, cell_text(column, text)) for column, text in filled)
    return parse(place.raw, place)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return True


class CSVWriter(TableWriter):
    """A column for each key that any row has."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path, place)
        self._columns: dict[str, None] = {}
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","

    def see(self, value: dict[str, Any]) -> None:
        self._columns.update(dict.fromkeys(value))
        for column, item in value.items():
            if item is None or item == "":
                self.place.note(column, "csv_empty", "an empty cell is read back as no key at all")
            elif isinstance(item, str):
                if cells.is_json_cell(column, item):
                    said = f"the text {shown(item)} would be read back as JSON"
                    self.place.loss(column, "csv_ambiguous", said)
            elif column not in cells.ALWAYS_JSON | cells.SOMETIMES_JSON:
                self.place.note(column, "csv_text", "CSV has only text; written as JSON text")

    def finish(self) -> None:
        text = io.TextIOWrapper(self.file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
        writer.writerow(self._columns)
        for row in self.spooled():
            writer.writerow([_cell(row.get(column)) for column in self._columns])
        text.detach()


def _cell(raw: msgspec.Raw | None) -> str:
    text = "" if raw is None else bytes(raw).decode()
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return "" if text == "null" else text
