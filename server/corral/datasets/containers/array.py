"""A JSON array of rows, read one element at a time so that memory does not grow with the file."""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral.datasets.containers.output import Writer
from corral.datasets.findings import Place
from corral.datasets.strict_json import BadJSON, decode_row, encode

# A whole string, or one character that opens, closes or separates.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)
_RELEASE_BYTES = 16 * 1024 * 1024


def elements(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each element of the outer array with the line it starts on.

    Raises BadJSON where the brackets do not match or the file breaks off: what follows cannot be
    told apart any more.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        depth, start, line, counted, released = 0, 0, 1, 0, 0
        for token in _TOKEN.finditer(data):
            mark = data[token.start()]
            if mark in b"[{":
                depth += 1
                if depth == 1:
                    start = token.end()
            elif mark in b"]}" or (mark == ord(",") and depth == 1):
                depth -= mark != ord(",")
                if depth == 0 or mark == ord(","):
                    piece = data[start : token.start()]
                    begin = start + len(piece) - len(piece.lstrip())
                    line += data[counted:begin].count(b"\n")
                    counted, start = begin, token.end()
                    if piece.strip() or depth:
                        yield line, piece.strip()
                    if start - released > _RELEASE_BYTES:
                        released = _release(data, released, start)
                if depth == 0:
                    _nothing_after(data[token.end() :], line)
                    return
        raise BadJSON("bad_json", "the array has no closing ]; was the file cut?")


def _release(data: mmap.mmap, begin: int, end: int) -> int:
    """Give the pages already read back to the system; where reading goes on from."""
    page = mmap.PAGESIZE
    end -= end % page
    data.madvise(mmap.MADV_DONTNEED, begin, end - begin)
    return end


def _nothing_after(rest: bytes, line: int) -> None:
    if rest.strip():
        raise BadJSON("bad_json", f"text follows the array's closing ] (after line {line})")


def read(path: Path, place: Place, max_row_bytes: int) -> Iterator[dict[str, Any]]:
    """The good rows; `place.line` is the line on which each starts."""
    try:
        for line, raw in elements(path):
            place.move(line, raw)
            try:
                if len(raw) > max_row_bytes:
                    size = f"{len(raw):,} bytes; a row may have {max_row_bytes:,}"
                    raise BadJSON("row_too_long", size)
                value = decode_row(raw)
            except BadJSON as bad:
                place.error(bad.field, bad.code, bad.message)
                continue
            yield value
    except BadJSON as bad:
        place.error(bad.field, bad.code, bad.message)


class ArrayWriter(Writer):
    """A JSON array with one row on each line."""

    def write(self, value: dict[str, Any]) -> bool:
        self.file.write((b",\n" if self.rows else b"[\n") + encode(value))
        self.rows += 1
        return True

    def finish(self) -> None:
        self.file.write(b"\n]\n" if self.rows else b"[]\n")
