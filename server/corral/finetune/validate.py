"""Check a job's files, and set rows aside to measure the result with: the first stage of a job.

    python -m corral.finetune.validate --training FILE --out FOLDER --method supervised --seed 1 …

Every row is checked with the code of `corral data check`; the first error ends the job with line and
field. OUT gets `training_file.jsonl` and, where there are such rows, `validation_file.jsonl` and
`evaluation.jsonl`. Rows to measure with come from --evaluation, else from --validation, else SHARE of
the training rows are held out, at most --rows, where there are HOLDOUT_LEAST or more. Held-out lines
are blank in the training file, so that the numbers of the others stay.
"""

import argparse
import json
import os
import random
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from corral.datasets import containers, formats
from corral.datasets.check import find_format, read_rows
from corral.datasets.findings import Finding, Findings, Place
from corral.datasets.rows import Row
from corral.datasets.turn_checks import check_row
from corral.errors import CorralError, DiskFullError, InvalidData, StoreError, ToolError
from corral.finetune import full
from corral.finetune.stage_events import Events

TRAINING, VALIDATION, EVALUATION = (
    "training_file.jsonl",
    "validation_file.jsonl",
    "evaluation.jsonl",
)
SHARE, HOLDOUT_LEAST = 0.05, 50
FEW_ROWS = 10
WANTED = {"supervised": ("chat", "completion"), "dpo": ("preference",)}
TEXT = ("text",)
PACKAGES = {
    "peft": ("torch", "transformers", "peft"),
    "mlx": ("mlx_lm",),
    "unsloth": ("unsloth",),
    full.ENGINE: (),
}


class Checked(NamedTuple):
    """A file without an error: the lines of its rows, and whether it has a line for each row."""

    lines: list[int]
    is_jsonl: bool


def main() -> None:
    """Check what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("training", "validation", "evaluation", "out", "events"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--method", choices=sorted(WANTED), default="supervised")
    parser.add_argument("--engine", choices=sorted(PACKAGES), default="peft")
    parser.add_argument("--rows", type=int, default=0, help="most rows to measure with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--note", action="append", default=[], help="tell this first")
    args = parser.parse_args()
    events = Events(args.events)
    try:
        for note in args.note:
            events.message(note, "warning")
        events.result(validate(args, events))
    except CorralError as error:
        events.fail(error)
    except OSError as error:
        kind = DiskFullError if error.errno == 28 else StoreError
        events.fail(kind(f"{error.filename or args.out} cannot be written: {error.strerror}"))


def validate(args: argparse.Namespace, events: Events) -> dict[str, int]:
    """The stage; how many rows there are of each sort."""
    check_engine(args.engine)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = TEXT if args.engine == full.ENGINE else WANTED[args.method]
    training = checked(args.training, "training_file", wanted, events)
    counts = {"training_rows": len(training.lines), "validation_rows": 0, "evaluation_rows": 0}
    if len(training.lines) < FEW_ROWS:
        events.message(
            f"{len(training.lines)} rows are few; 50 to 100 are a usual start", "warning"
        )
    if args.validation:
        valid = checked(args.validation, "validation_file", wanted, events)
        counts["validation_rows"] = len(valid.lines)
        _link(args.validation, args.out / VALIDATION)
    source = args.evaluation or (args.validation if args.method == "supervised" else None)
    if args.evaluation:
        checked(args.evaluation, "evaluation_file", WANTED["supervised"], events)
    held = set[int]()
    if args.rows and source:
        counts["evaluation_rows"] = _write_evaluation(source, args.out, args.rows, None)
    elif args.rows and wanted == WANTED["supervised"] and training.is_jsonl:
        held = held_out(training.lines, args.rows, args.seed)
        if held:
            counts["evaluation_rows"] = _write_evaluation(args.training, args.out, args.rows, held)
            counts["training_rows"] -= len(held)
    _write_training(args.training, args.out / TRAINING, held)
    events.message(_summary(counts, bool(held), bool(args.rows), wanted))
    return counts


def check_engine(engine: str) -> None:
    """ToolError unless the packages of this training engine are installed."""
    missing = [name for name in PACKAGES[engine] if find_spec(name) is None]
    if missing:
        raise ToolError(
            f"the engine `{engine}` needs {', '.join(missing)}, not installed where the worker runs; "
            "`make setup-train` installs what `peft` needs",
            code="engine_missing",
            param="engine",
        )


def checked(path: Path, field: str, wanted: tuple[str, ...], events: Events) -> Checked:
    """Check every row; InvalidData names the first wrong one by `field`, line and path."""
    if not path.is_file():
        raise InvalidData(f"{field}: its content is gone; upload the file again", param=field)
    findings = Findings(keep=1)
    place = Place(findings, field)
    lines = list[int]()
    try:
        format = find_format(path, None)
        for row in read_rows(path, format, place):
            check_row(row, place)
            _stop_at_error(findings, field)
            if row.kind not in wanted:
                raise _wrong_kind(row, place, field, wanted)
            lines.append(place.line)
            if len(lines) % 1000 == 0:
                events.progress(len(lines), None, "rows", f"checking {field}")
        _stop_at_error(findings, field)
    except InvalidData as error:
        text = error.message.replace(str(path), field).replace(
            "name it with --from, one of", "formats:"
        )
        raise InvalidData(text, param=field, code=error.code) from None
    if not lines:
        raise InvalidData(f"{field} has no rows", param=field, code="no_rows")
    return Checked(lines, containers.container_of(path) == "jsonl")


def held_out(lines: list[int], most: int, seed: int) -> set[int]:
    """The lines to hold out; the same for the same rows and seed."""
    if len(lines) < HOLDOUT_LEAST:
        return set()
    count = min(most, max(1, round(len(lines) * SHARE)))
    return set(random.Random(seed).sample(lines, count))


def _stop_at_error(findings: Findings, field: str) -> None:
    if findings.failed:
        raise _refused(findings.first(1, ("error",))[0], field)


def _refused(first: Finding, field: str) -> InvalidData:
    place = f"{field}, line {first.line}" if first.line else field
    inside = f", {first.field}" if first.field else ""
    return InvalidData(f"{place}{inside}: {first.message}", param=field, code=first.code)


def _wrong_kind(row: Row, place: Place, field: str, wanted: tuple[str, ...]) -> InvalidData:
    names = {"chat": "conversations", "preference": "preferences", "text": "plain text"}
    names["completion"] = "prompts with completions"
    here, other = names[row.kind], " or ".join(names[kind] for kind in wanted)
    who, choose = ("engine", "another one") if wanted == TEXT else ("method", "the other `method`")
    return InvalidData(
        f"{field}, line {place.line}: its rows are {here}, this {who} trains on {other}; choose "
        f"{choose}, or another file",
        param=field,
        code="wrong_method",
    )


def _write_evaluation(source: Path, out: Path, most: int, held: set[int] | None) -> int:
    """Write at most `most` rows that can be asked, all or those held out; how many there were."""
    path = out / EVALUATION
    with path.open("w", encoding="utf-8") as file:
        count = 0
        for value in _askable(source, held):
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            count += 1
            if count == most:
                break
    if not count:
        path.unlink()
    return count


def _askable(source: Path, held: set[int] | None) -> Iterator[dict[str, object]]:
    """The rows whose last turn is an answer, as OpenAI's chats."""
    place = Place(Findings(keep=1), str(source))
    chat = formats.get("openai")
    for row in read_rows(source, find_format(source, None), place):
        if held is not None and place.line not in held:
            continue
        value = chat.write(row, place)
        turns = value["messages"] if value else []
        if value and len(turns) > 1 and turns[-1]["role"] == "assistant":
            yield value


def _write_training(source: Path, target: Path, held: set[int]) -> None:
    """The training rows; held-out lines are left blank."""
    if not held:
        _link(source, target)
        return
    part = target.with_suffix(".part")
    with source.open("rb") as rows, part.open("wb") as file:
        for number, line in enumerate(rows, 1):
            file.write(b"\n" if number in held else line)
    part.replace(target)


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _summary(counts: dict[str, int], held: bool, measured: bool, wanted: tuple[str, ...]) -> str:
    text = f"files are good: {counts['training_rows']:,} rows to train on"
    if counts["validation_rows"]:
        text += f", {counts['validation_rows']:,} to validate with"
    if counts["evaluation_rows"]:
        text += f", {counts['evaluation_rows']:,} to measure with"
        text += " (held out of the training file)" if held else ""
    elif measured and wanted == TEXT:
        text += "; nothing will be measured: text is no question, give `corral.evaluation_file`"
    elif measured:
        text += f"; nothing will be measured: with {HOLDOUT_LEAST} rows or more some are held out"
    return text


if __name__ == "__main__":
    main()
