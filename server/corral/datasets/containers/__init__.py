"""Containers: how rows lie in a file. JSONL, JSON array, CSV (TSV), Parquet, and mlx-lm's folder.

`read` yields one dict for each good row and moves `place` along; what cannot be parsed becomes a
finding and the next row follows. `create` gives a writer; nothing appears at the destination
before `commit`. Only JSONL keeps the exact bytes of a row.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from corral.datasets.containers import array, csv_table, jsonl, parquet
from corral.datasets.containers.output import Writer
from corral.datasets.findings import Place
from corral.datasets.strict_json import MAX_ROW_BYTES
from corral.errors import InvalidData

Container = Literal["jsonl", "array", "csv", "parquet"]
SUFFIXES: dict[str, Container] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "array",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def container_of(path: Path) -> Container:
    """Which container an existing file is. Its first bytes decide, then its suffix.

    Raises InvalidData for a missing, empty or UTF-16 file and for a folder.
    """
    if path.is_dir():
        raise InvalidData(f"{path} is a folder; name one of its files", param=str(path))
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InvalidData(f"cannot read {path}: {error.strerror}", param=str(path)) from None
    if not head.strip():
        raise InvalidData(f"{path} is empty; a dataset has at least one row", param=str(path))
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidData(f"{path} is UTF-16; save it as UTF-8", param=str(path))
    if head[:4] == b"PAR1":
        return "parquet"
    named = SUFFIXES.get(path.suffix.lower())
    if named in ("csv", "parquet"):
        return named
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "array" if first == b"[" else "jsonl"


def read(
    path: Path, place: Place, *, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[dict[str, Any]]:
    """The good rows of a file, in order, as parsed JSON objects."""
    container = container_of(path)
    if container == "jsonl":
        return jsonl.read(path, place, max_row_bytes)
    if container == "array":
        return array.read(path, place, max_row_bytes)
    return csv_table.read(path, place) if container == "csv" else parquet.read(path, place)


def create(path: Path, place: Place) -> Writer:
    """A writer for the container that the suffix of `path` names; without one, JSONL."""
    container = SUFFIXES.get(path.suffix.lower(), "jsonl")
    if container == "jsonl":
        return jsonl.JSONLWriter(path)
    if container == "array":
        return array.ArrayWriter(path)
    if container == "csv":
        return csv_table.CSVWriter(path, place)
    return parquet.ParquetWriter(path, place)


SPLITS = ("train", "valid", "test")


def split_files(folder: Path) -> dict[str, Path]:
    """The split files of an mlx-lm folder, by split. Raises InvalidData when there is none."""
    files = {name: folder / f"{name}.jsonl" for name in SPLITS}
    found = {name: path for name, path in files.items() if path.exists()}
    if not found:
        raise InvalidData(
            f"{folder} has none of train.jsonl, valid.jsonl, test.jsonl", param=str(folder)
        )
    return found
