"""One file, or one mlx-lm folder, from any format and container to any other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from corral.datasets import containers, formats, selection
from corral.datasets.answers import check_answers, fix_answers
from corral.datasets.check import find_format, read_rows
from corral.datasets.containers.jsonl import JSONLWriter
from corral.datasets.containers.output import Writer
from corral.datasets.duplicates import Duplicates, fingerprint, marks
from corral.datasets.findings import Findings, Place
from corral.datasets.formats import Format
from corral.datasets.rows import Row
from corral.datasets.strict_json import MAX_ROW_BYTES
from corral.datasets.turn_checks import check_row
from corral.errors import InvalidData


class Options(msgspec.Struct, frozen=True):
    """`strict`: any loss stops the result from being written. `fix_answers`: Python literals among
    the answers become JSON. `check`: rows are checked as well, by themselves and for duplicates,
    and those with an error left out. `valid`, `test`, `seed`: how an mlx-lm folder is filled."""

    to: str
    source_format: str | None = None
    strict: bool = False
    fix_answers: bool = False
    check: bool = False
    max_row_bytes: int = MAX_ROW_BYTES
    valid: float = 0.1
    test: float = 0.0
    seed: int = 1


class Result(msgspec.Struct):
    """What became of one file. `left_out` rows were good, but the target cannot hold them."""

    source: str
    target: str
    from_format: str
    to_format: str
    detected: bool
    rows: int = 0
    written: int = 0
    left_out: int = 0
    bad_rows: int = 0


def convert(
    source: Path,
    target: Path,
    options: Options,
    findings: Findings,
    progress: Callable[[int], object] = lambda rows: None,
) -> list[Result]:
    """Convert; a folder gives one result for each split. What is lost is in `findings`.

    Nothing is written when no row could be, or, under `strict`, after any loss or error.
    """
    formats.get(options.to)
    if source.is_dir():
        files = containers.split_files(source)
        if target.suffix.lower() in containers.SUFFIXES:
            names = ", ".join(path.name for path in files.values())
            raise InvalidData(
                f"{source} is a folder of splits; give a folder as OUT, or one of {names} as IN",
                param="out",
            )
        return [
            _convert_file(path, {"": target / f"{split}.jsonl"}, options, findings, progress)
            for split, path in files.items()
        ]
    if options.to in ("mlx", "mlx-text") and target.suffix.lower() not in containers.SUFFIXES:
        outputs = {split: target / f"{split}.jsonl" for split in containers.SPLITS}
        if not options.test:
            del outputs["test"]
        return [_convert_file(source, outputs, options, findings, progress)]
    return [_convert_file(source, {"": target}, options, findings, progress)]


def _convert_file(
    source: Path,
    outputs: dict[str, Path],
    options: Options,
    findings: Findings,
    progress: Callable[[int], object],
) -> Result:
    reader = find_format(source, options.source_format, options.max_row_bytes)
    target = next(iter(outputs.values()))
    target = target if "" in outputs else target.parent
    result = Result(str(source), str(target), reader.name, options.to, not options.source_format)
    place = Place(findings, str(source))
    writers: dict[str, Writer] = {}
    duplicates = Duplicates() if options.check else None
    try:
        for split, path in outputs.items():
            writers[split] = containers.create(path, place)
        rows = read_rows(source, reader, place, options.max_row_bytes)
        if duplicates is not None:
            rows = _checked(rows, duplicates, place)
        _convert_rows(rows, reader, writers, options, place, result, progress)
        result.bad_rows = place.bad_rows
        if duplicates is not None:
            duplicates.report()
        _commit(writers, result, options, place)
    finally:
        for writer in writers.values():
            writer.__exit__(None, None, None)
    return result


def _checked(rows: Iterator[Row], duplicates: Duplicates, place: Place) -> Iterator[Row]:
    """The rows without errors; what they say twice is collected."""
    duplicates.start_file(place)
    for row in rows:
        check_row(row, place)
        if not place.bad:
            duplicates.add(marks(row), place.line)
            yield row


def _convert_rows(
    rows: Iterator[Row],
    reader: Format,
    writers: dict[str, Writer],
    options: Options,
    place: Place,
    result: Result,
    progress: Callable[[int], object],
) -> None:
    target = formats.get(options.to)
    only = writers.get("")
    # A row that stays in its format keeps its very bytes.
    raw_writer = only if reader is target and not options.fix_answers else None
    for row in rows:
        result.rows += 1
        if not result.rows % 1000:
            progress(1000)
        if options.fix_answers:
            row = fix_answers(row, place)
        elif not options.check:
            check_answers(row, place)
        raw = place.raw
        if isinstance(raw_writer, JSONLWriter) and raw is not None and b"\n" not in raw:
            raw_writer.write_raw(raw)
            result.written += 1
            continue
        value = target.write(row, place)
        if value is not None and (only or _writer_of(row, writers, options)).write(value):
            result.written += 1
        else:
            result.left_out += 1


def _writer_of(row: Row, writers: dict[str, Writer], options: Options) -> Writer:
    mark = fingerprint(row)
    return writers[selection.split_of(mark.question or mark.row, options)]


def _commit(writers: dict[str, Writer], result: Result, options: Options, place: Place) -> None:
    """Put the files in place unless something forbids it; then `result.written` becomes 0."""
    findings = place.findings
    empty = [name for name, writer in writers.items() if not writer.rows]
    if not result.written:
        findings.add_error(result.source, "no_rows", f"no row could be written as {options.to}")
    elif empty and not (options.strict and findings.failed):
        names = " and ".join(f"{name}.jsonl" for name in empty)
        findings.add_error(
            result.source,
            "empty_split",
            f"{names} would be empty: {result.written} rows are too few for these shares; "
            "raise --valid and --test, or try another --seed",
        )
    if not result.written or empty or (options.strict and findings.failed):
        result.written = 0
        return
    for writer in writers.values():
        writer.commit()
