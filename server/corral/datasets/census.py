"""Counting a file's tokens, and showing its rows as the model sees them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from corral.datasets.check import FileReport, find_format, read_rows
from corral.datasets.counting import Counts, Sizes
from corral.datasets.duplicates import fingerprint
from corral.datasets.findings import Findings, Place
from corral.datasets.formats import Format
from corral.datasets.rendering import Example, Renderer, Tokens
from corral.datasets.rows import Row
from corral.datasets.selection import draw
from corral.errors import InvalidData

_BATCH = 64


class Census(NamedTuple):
    """A counted file."""

    report: FileReport
    counts: Counts


def census(
    path: Path,
    format_name: str | None,
    renderer: Renderer,
    findings: Findings,
    sample: int = 0,
    context: int | None = None,
    progress: Callable[[int], object] = lambda rows: None,
) -> Census:
    """Count the tokens of a file's rows, or of `sample` of them chosen by hash.

    A row that the chat template refuses is an error finding at its line.
    """
    format = find_format(path, format_name)
    report = FileReport(str(path), format.name, format_name is None)
    wanted = _chosen(path, format, sample) if sample else None
    place = Place(findings, str(path))
    sizes = Sizes()
    waiting: list[tuple[int, Row]] = []
    for row in read_rows(path, format, place):
        report.rows += 1
        if wanted is None or place.line in wanted:
            waiting.append((place.line, row))
        if len(waiting) == _BATCH:
            _count(waiting, renderer, sizes, place, progress)
            waiting = []
    _count(waiting, renderer, sizes, place, progress)
    report.bad_rows = place.bad_rows
    return Census(report, sizes.counts(context, report.rows if wanted is not None else None))


def _chosen(path: Path, format: Format, sample: int) -> set[int] | None:
    """The lines of the rows to count; None when the file has no more than that."""
    place = Place(Findings(keep=0), str(path))
    ranked = [
        (draw(fingerprint(row).row.to_bytes(8) + place.line.to_bytes(8), 1), place.line)
        for row in read_rows(path, format, place)
    ]
    return {line for _, line in sorted(ranked)[:sample]} if len(ranked) > sample else None


def _count(
    rows: list[tuple[int, Row]],
    renderer: Renderer,
    sizes: Sizes,
    place: Place,
    progress: Callable[[int], object],
) -> None:
    try:
        rendered = renderer.render_many([row for _, row in rows])
    except InvalidData as error:
        if len(rows) == 1:
            place.move(rows[0][0])
            place.error(error.param or "", error.code, error.message)
            return
        for one in rows:
            _count([one], renderer, sizes, place, progress)
        return
    for (line, _), examples in zip(rows, rendered, strict=True):
        sizes.add(line, sum(len(e.tokens) for e in examples), sum(e.learned for e in examples))
    progress(len(rows))


def first_rows(
    path: Path, format_name: str | None, count: int, findings: Findings
) -> tuple[Format, list[Row]]:
    """The format of a file and its first good rows."""
    format = find_format(path, format_name)
    rows: list[Row] = []
    for row in read_rows(path, format, Place(findings, str(path))):
        rows.append(row)
        if len(rows) == count:
            break
    return format, rows


def marked(example: Example, tokens: Tokens) -> str:
    """The text of an example, the learned parts between » and «."""
    text, done = b"", 0
    for begin, end in example.spans:
        before, learned = example.tokens[done:begin], example.tokens[begin:end]
        text += b"".join(map(tokens.piece, before)) + "»".encode()
        text += b"".join(map(tokens.piece, learned)) + "«".encode()
        done = end
    return (text + b"".join(map(tokens.piece, example.tokens[done:]))).decode(errors="replace")
