"""JSON Lines: one object on each line, UTF-8, LF. The container that every consumer reads."""

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets.containers.output import Writer
from corral.datasets.findings import Place
from corral.datasets.strict_json import BadJSON, decode_row

BOM = b"\xef\xbb\xbf"
# Small, so that a piece and its rows stay in the processor's cache: 256 KiB takes a third longer.
CHUNK = 32 * 1024
_LARGEST = 1024 * 1024
_BATCH = 128
_encode_lines = msgspec.json.Encoder().encode_lines


def chunks(path: Path, place: Place, max_row_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The file in pieces of whole lines, with the number of each piece's first line.

    A line over the limit is an error finding and left out, and never held in memory whole.
    """
    with path.open("rb", buffering=0) as file:
        line, rest, size = 1, b"", CHUNK
        while data := file.read(size):
            rest += data
            # Doubling, or a long line would be copied again for each small piece of it.
            size = min(2 * size, _LARGEST)
            if cut := rest.rfind(b"\n") + 1:
                yield line, rest[:cut]
                line += rest.count(b"\n", 0, cut)
                rest, size = rest[cut:], CHUNK
            if len(rest) > max_row_bytes:
                length, rest = _skip_line(file, len(rest))
                _report_long(line, length, max_row_bytes, place)
                line += 1
        if rest:
            yield line, rest


def _skip_line(file: FileIO, size: int) -> tuple[int, bytes]:
    """Read to the end of the line: its size, and what was read of the next ones."""
    while data := file.read(_LARGEST):
        end = data.find(b"\n")
        if end >= 0:
            return size + end, data[end + 1 :]
        size += len(data)
    return size, b""


def _report_long(line: int, size: int, limit: int, place: Place) -> None:
    place.move(line)
    place.error("", "row_too_long", f"{size:,} bytes; a row may have {limit:,}")


def raw_rows(chunk: bytes, first_line: int, place: Place, max_row_bytes: int) -> Iterator[bytes]:
    """The lines of a piece that hold something, without their ends; `place` moves along."""
    if first_line == 1 and chunk.startswith(BOM):
        chunk = chunk[3:]
        place.move(1)
        place.warning("", "bom", "the file starts with a byte order mark; not written again")
    for line, raw in enumerate(chunk.removesuffix(b"\n").split(b"\n"), first_line):
        if len(raw) > max_row_bytes:
            _report_long(line, len(raw), max_row_bytes, place)
            continue
        raw = raw.removesuffix(b"\r")
        place.move(line, raw)
        if not raw or raw.isspace():
            place.warning("", "blank_line", "the line is blank; skipped")
            continue
        yield raw


def read(path: Path, place: Place, max_row_bytes: int) -> Iterator[dict[str, Any]]:
    """The good rows, with `place.raw` their exact bytes."""
    for line, chunk in chunks(path, place, max_row_bytes):
        for raw in raw_rows(chunk, line, place, max_row_bytes):
            value = parse(raw, place)
            if value is not None:
                yield value


def parse(raw: bytes, place: Place) -> dict[str, Any] | None:
    """One row; None after an error."""
    try:
        return decode_row(raw)
    except BadJSON as bad:
        place.error(bad.field, bad.code, bad.message)
        return None


class JSONLWriter(Writer):
    """One object on each line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: list[dict[str, Any]] = []

    def write(self, value: dict[str, Any]) -> bool:
        self.rows += 1
        self._waiting.append(value)
        if len(self._waiting) == _BATCH:
            self._flush()
        return True

    def write_raw(self, raw: bytes) -> None:
        """Add a row as it stood in another JSONL file, byte for byte."""
        self._flush()
        self.file.write(raw + b"\n")
        self.rows += 1

    def _flush(self) -> None:
        # Many at once: a call for each row would cost as much again as the encoding.
        if self._waiting:
            self.file.write(_encode_lines(self._waiting))
            self._waiting.clear()

    def finish(self) -> None:
        self._flush()
