"""`corral data check`: everything that can be said about dataset files, in one pass over each."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets import containers, formats
from corral.datasets.containers import jsonl
from corral.datasets.duplicates import Duplicates, marks
from corral.datasets.findings import Findings, Place
from corral.datasets.formats import Format
from corral.datasets.near_duplicates import NearDuplicates
from corral.datasets.rows import Row
from corral.datasets.sensitive import check_sensitive
from corral.datasets.strict_json import MAX_ROW_BYTES
from corral.datasets.turn_checks import check_row, length_in_bytes
from corral.errors import InvalidData

# What OpenAI asks for; below it a file is accepted here, for DSPy sends as few as three rows.
_FEW_ROWS = 10
_DETECT_ROWS = 20


class Options(msgspec.Struct, frozen=True):
    """What to look for. `measure` counts the tokens of a row as the model will see it."""

    format: str | None = None
    near_duplicates: bool = True
    sensitive: bool = True
    max_row_bytes: int = MAX_ROW_BYTES
    context: int | None = None
    measure: Callable[[Row], int] | None = None


class FileReport(msgspec.Struct):
    """One file. `detected` says that the format was not given but found."""

    file: str
    format: str
    detected: bool
    rows: int = 0
    bad_rows: int = 0


def find_format(path: Path, name: str | None, max_row_bytes: int = MAX_ROW_BYTES) -> Format:
    """The format of that name, else the one that the first good rows show.

    Raises InvalidData when the file has no row of any format.
    """
    if name is not None:
        return formats.get(name)
    silent = Place(Findings(keep=1), str(path))
    first: list[dict[str, Any]] = []
    for value in containers.read(path, silent, max_row_bytes=max_row_bytes):
        first.append(value)
        if len(first) == _DETECT_ROWS:
            break
    found = formats.detect(first)
    if found is not None:
        return found
    if first:
        keys = ", ".join(map(repr, list(first[0])[:8])) or "none"
        hint = f"its first row has the keys {keys}"
    else:
        hint = (
            f"it has no good row ({silent.findings.kept[0]})"
            if silent.findings.kept
            else "it has no rows"
        )
    raise InvalidData(
        f"{path} is in no known format: {hint}; name it with --from, one of {', '.join(formats.FORMATS)}",
        param=str(path),
        code="unknown_format",
    )


def read_rows(
    path: Path, format: Format, place: Place, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[Row]:
    """The good rows of a file; `place` stands at the row and has a finding for each bad one."""
    if containers.container_of(path) != "jsonl":
        for value in containers.read(path, place, max_row_bytes=max_row_bytes):
            row = format.read(value, place)
            if row is not None:
                yield row
        return
    for first_line, chunk in jsonl.chunks(path, place, max_row_bytes):
        lines = chunk.split(b"\n")
        if not lines[-1]:
            lines.pop()
        plain = format.read_plain(lines, chunk) if len(chunk) <= max_row_bytes else None
        if plain is not None:
            for line, raw, row in zip(count(first_line), lines, plain, strict=False):
                place.line, place.raw, place.bad = line, raw, False
                yield row
            continue
        for raw in jsonl.raw_rows(chunk, first_line, place, max_row_bytes):
            parsed = jsonl.parse(raw, place)
            found = format.read(parsed, place) if parsed is not None else None
            if found is not None:
                yield found


def check_files(
    paths: list[Path],
    findings: Findings,
    options: Options | None = None,
    progress: Callable[[int], object] = lambda rows: None,
) -> list[FileReport]:
    """Check files together: what several of them share is a leak. `progress` is told of rows done.

    Raises InvalidData for a file that cannot be read or has no known format.
    """
    options = options or Options()
    duplicates = Duplicates()
    near = NearDuplicates() if options.near_duplicates else None
    reports = []
    for path in paths:
        format = find_format(path, options.format, options.max_row_bytes)
        report = FileReport(str(path), format.name, options.format is None)
        place = Place(findings, str(path))
        duplicates.start_file(place)
        if near:
            near.start_file(place)
        for row in read_rows(path, format, place, options.max_row_bytes):
            _check_one(row, format, place, options)
            if place.bad:
                continue
            mark = marks(row)
            duplicates.add(mark, place.line)
            if near:
                near.add(row, place.line, mark.row)
            report.rows += 1
            if not report.rows % 1000:
                progress(1000)
        report.bad_rows = place.bad_rows
        _check_size(report, place)
        reports.append(report)
    duplicates.report()
    if near:
        near.report()
    return reports


def _check_one(row: Row, format: Format, place: Place, options: Options) -> None:
    check_row(row, place)
    if row.extra and not format.holds_extra:
        for key in row.extra:
            place.error(key, "unknown_key", f"{format.name} allows no key {key!r}")
    if options.sensitive:
        check_sensitive(row, place)
    if options.context is not None and options.measure is not None:
        _check_length(row, place, options.context, options.measure)


def _check_length(row: Row, place: Place, context: int, measure: Callable[[Row], int]) -> None:
    # A token is at least one byte, and templates add far fewer than 64 tokens to a turn.
    if not row.tools and length_in_bytes(row) <= context - 64 * (1 + len(row.messages)):
        return
    try:
        tokens = measure(row)
    except InvalidData as error:
        place.error(error.param or "", error.code, error.message)
        return
    if tokens > context:
        said = f"{tokens:,} tokens; the context has {context:,}, the rest is cut off"
        place.warning("", "too_long", said)


def _check_size(report: FileReport, place: Place) -> None:
    place.move(0)
    if report.rows == 0:
        place.findings.add_error(place.file, "no_rows", "not one good row")
    elif report.rows < _FEW_ROWS:
        place.warning(
            "",
            "few_rows",
            f"{report.rows} good row{'s' * (report.rows != 1)}; 50 to 100 are a usual start",
        )
