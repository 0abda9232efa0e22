"""`corral data split|sample|shuffle|mix`: choose rows by seed."""

from pathlib import Path
from typing import Annotated

import typer

from corral.cli import data_output as output

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Seed = Annotated[int, typer.Option(help="Another seed, another choice; the same seed, the same.")]
In = Annotated[Path, typer.Argument(metavar="FILE")]
Out = Annotated[Path, typer.Argument(metavar="OUT")]


class Shares:
    """How much of a file goes to valid and test."""

    def __init__(self, valid: float, test: float, seed: int) -> None:
        self.valid = valid
        self.test = test
        self.seed = seed


def split(
    file: In,
    out: Annotated[
        Path | None, typer.Option(help="Folder; FILE without its suffix when not given.")
    ] = None,
    valid: Annotated[float, typer.Option(help="Share of valid.jsonl.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of test.jsonl.")] = 0.0,
    seed: Seed = 1,
    group_by: Annotated[
        str | None,
        typer.Option(help="Keep rows with the same value of this field together (a.b for nested)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Split into train.jsonl, valid.jsonl, test.jsonl. Rows with the same question stay together,
    and rows added to FILE later leave the others where they are."""
    from corral.datasets import selection

    folder = out or file.with_suffix("")
    with output.collected(20, None) as findings, output.progress("splitting") as step:
        counts = selection.split(file, folder, Shares(valid, test, seed), findings, group_by, step)
    output.selection({"folder": str(folder), "rows": counts}, findings, as_json)


def sample(
    file: In,
    out: Out,
    rows: Annotated[float, typer.Option(help="So many rows; below 1, that share of them.")],
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Choose rows at random, in the order of FILE."""
    from corral.datasets import selection

    with output.collected(20, None) as findings, output.progress("sampling") as step:
        count = selection.sample(file, out, rows, seed, findings, step)
    output.selection({"file": str(out), "rows": count}, findings, as_json)


def shuffle(
    file: In,
    out: Out,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Put the rows in random order."""
    from corral.datasets import selection

    with output.collected(20, None) as findings, output.progress("shuffling") as step:
        count = selection.shuffle(file, out, seed, findings, step)
    output.selection({"file": str(out), "rows": count}, findings, as_json)


def mix(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE[:WEIGHT]…", help="As in a.jsonl:0.7 b.jsonl:0.3.")
    ],
    out: Annotated[Path, typer.Option(help="The mixed file.")],
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows in all; as many as there are when not given.")
    ] = None,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Mix files of one format by weight, in random order, no row twice."""
    from corral.datasets import selection

    sources = [_weighted(text) for text in files]
    with output.collected(20, None) as findings, output.progress("mixing") as step:
        counts = selection.mix(sources, out, rows, seed, findings, step)
    output.selection({"file": str(out), "rows": counts}, findings, as_json)


def _weighted(text: str) -> tuple[Path, float]:
    name, mark, weight = text.rpartition(":")
    try:
        return (Path(name), float(weight)) if mark else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0
