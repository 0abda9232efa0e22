"""The shared corpus of tricky rows: tests/data/datasets/<format>.jsonl, each format's own."""

from pathlib import Path

from corral.datasets import formats
from corral.datasets.findings import Findings, Place
from corral.datasets.rows import Row
from corral.datasets.strict_json import decode_row, encode

FOLDER = Path(__file__).parents[2] / "data" / "datasets"
NAMES = tuple(formats.FORMATS)


def file_of(name: str) -> Path:
    """The corpus of a format."""
    return FOLDER / f"{name}.jsonl"


def lines(name: str) -> list[bytes]:
    """Its rows as they stand."""
    return file_of(name).read_bytes().splitlines()


def place() -> Place:
    """A place with findings of its own."""
    return Place(Findings(), "rows.jsonl")


def read(name: str, raw: bytes, at: Place) -> Row | None:
    """One row through a format's reader."""
    at.move(1, raw)
    return formats.get(name).read(decode_row(raw), at)


def write(name: str, row: Row, at: Place) -> bytes | None:
    """One row through a format's writer, as a line of JSONL."""
    value = formats.get(name).write(row, at)
    return None if value is None else encode(value)


def codes(at: Place) -> set[str]:
    """The codes of all findings so far."""
    return {finding.code for finding in at.findings.kept}
