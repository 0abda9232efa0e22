"""Split, sample, shuffle and mix, by hash and seed rather than by drawing.

What happens to a row depends on its content and the seed alone, so rows appended later change
nothing for those already there: a row stays in its split, a shuffled file keeps its order with
the new rows between, and the same command gives the same bytes on every machine. Rows that ask
the same question always share a split.
"""

from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import msgspec
import numpy as np

from corral.datasets import containers
from corral.datasets.check import find_format
from corral.datasets.containers.jsonl import JSONLWriter
from corral.datasets.containers.output import Writer
from corral.datasets.duplicates import fingerprint
from corral.datasets.findings import Findings, Place, shown
from corral.datasets.formats import Format
from corral.datasets.strict_json import encode
from corral.errors import InvalidData

Progress = Callable[[int], object]
Indexes = np.ndarray[tuple[int], np.dtype[np.int64]]


class Shares(Protocol):
    """How much goes where; what is left is for training."""

    @property
    def valid(self) -> float: ...
    @property
    def test(self) -> float: ...
    @property
    def seed(self) -> int: ...


def draw(key: bytes, seed: int) -> int:
    """64 even bits that depend on the key and the seed only."""
    return int.from_bytes(blake2b(key, digest_size=8, key=seed.to_bytes(8, signed=True)).digest())


def split_of(key: int | bytes, shares: Shares) -> str:
    """train, valid or test for a row with this key."""
    if isinstance(key, int):
        key = key.to_bytes(8)
    place = draw(key, shares.seed) / 2**64
    if place < shares.valid:
        return "valid"
    return "test" if place < shares.valid + shares.test else "train"


def split_key(
    value: dict[str, Any], format: Format, group: str | None, place: Place
) -> bytes | None:
    """What keeps rows together: the group field's value, else the question that the row asks.

    None, with an error, for a row that is bad or lacks the field.
    """
    if group is not None:
        item: Any = value
        for step in group.split("."):
            item = item.get(step) if isinstance(item, dict) else None
        if item is None:
            place.error(group, "no_group", f"missing; --group-by {group} must be in every row")
            return None
        return encode(item)
    row = format.read(value, place)
    if row is None:
        return None
    mark = fingerprint(row)
    return (mark.question or mark.row).to_bytes(8)


def split(
    source: Path,
    folder: Path,
    shares: Shares,
    findings: Findings,
    group: str | None = None,
    progress: Progress = int,
) -> dict[str, int]:
    """Write train.jsonl, valid.jsonl and test.jsonl (with a share) into `folder`; rows in each.

    Raises InvalidData when a file would be empty.
    """
    if not (0 <= shares.valid < 1 and 0 <= shares.test < 1 and shares.valid + shares.test < 1):
        raise InvalidData(
            f"valid {shares.valid} and test {shares.test}: each at least 0, together below 1",
            param="valid",
        )
    format = find_format(source, None)
    place = Place(findings, str(source))
    wanted = ["train"] + [name for name in ("valid", "test") if getattr(shares, name)]
    writers = {name: JSONLWriter(folder / f"{name}.jsonl") for name in wanted}
    try:
        for value in _counted(containers.read(source, place), progress):
            key = split_key(value, format, group, place)
            if key is not None:
                writers[split_of(key, shares)].write_raw(one_line(value, place))
        empty = [name for name, writer in writers.items() if not writer.rows]
        if empty:
            raise InvalidData(
                f"{' and '.join(empty)} would be empty: {sum(w.rows for w in writers.values())} rows are too few "
                "for these shares; raise them, or try another --seed",
                param=str(source),
            )
        for writer in writers.values():
            writer.commit()
    finally:
        for writer in writers.values():
            writer.__exit__(None, None, None)
    return {name: writer.rows for name, writer in writers.items()}


def one_line(value: dict[str, Any], place: Place) -> bytes:
    """The row just read as one line of JSON: its very bytes where they are one line."""
    if place.raw is None:
        return encode(value)
    return msgspec.json.format(place.raw, indent=-1) if b"\n" in place.raw else place.raw


class Spool:
    """All rows of some files in a temporary file, with their places, so that any order is quick.

    Memory: 24 bytes for each row.
    """

    def __init__(self, near: Path) -> None:
        self._writer = JSONLWriter(near.with_name(f"{near.name}.rows"))
        self._starts = array("Q", [0])
        self._draws = array("Q")
        self._ends: list[int] = []

    def add_file(
        self, source: Path, seed: int, findings: Findings, progress: Progress = int
    ) -> None:
        """Add the good rows of a file."""
        place = Place(findings, str(source))
        for value in _counted(containers.read(source, place), progress):
            raw = one_line(value, place)
            self._writer.write_raw(raw)
            self._starts.append(self._starts[-1] + len(raw) + 1)
            self._draws.append(draw(raw, seed))
        self._ends.append(len(self._draws))

    def ranks(self, file: int = -1) -> Indexes:
        """The indexes of a file's rows in drawn order. Of equal rows, each further one is drawn
        anew, or they would all lie together."""
        begin, end = ([0, *self._ends][file if file >= 0 else file - 1], self._ends[file])
        draws = np.array(self._draws[begin:end], np.uint64)
        for _ in range(8):
            order = np.argsort(draws, kind="stable")
            again = order[1:][draws[order[1:]] == draws[order[:-1]]]
            if not len(again):
                break
            fresh = [
                draw(int(draws[index]).to_bytes(8) + int(index).to_bytes(8), 0) for index in again
            ]
            draws[again] = np.array(fresh, np.uint64)
        self._draws[begin:end] = array("Q", draws.tobytes())
        return cast(Indexes, begin + np.argsort(draws, kind="stable"))

    def sorted(self, indexes: Indexes) -> list[int]:
        """The indexes, of any files, in drawn order."""
        draws = np.frombuffer(self._draws, np.uint64)[indexes]
        return [int(index) for index in indexes[np.argsort(draws, kind="stable")]]

    def write(self, indexes: list[int], writer: Writer) -> None:
        """The rows, in this order, into `writer`, and put it in place."""
        self._writer.file.flush()
        with self._writer.temporary.open("rb") as file:
            for index in indexes:
                file.seek(self._starts[index])
                raw = file.read(self._starts[index + 1] - self._starts[index] - 1)
                if isinstance(writer, JSONLWriter):
                    writer.write_raw(raw)
                else:
                    writer.write(msgspec.json.decode(raw))
        writer.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def shuffle(
    source: Path, target: Path, seed: int, findings: Findings, progress: Progress = int
) -> int:
    """All rows in drawn order; how many."""
    with Spool(target) as spool:
        spool.add_file(source, seed, findings, progress)
        order = spool.ranks().tolist()
        _write(spool, order, source, target, findings)
    return len(order)


def sample(
    source: Path,
    target: Path,
    rows: int | float,
    seed: int,
    findings: Findings,
    progress: Progress = int,
) -> int:
    """So many rows, or, below 1, that share of them, in the order of the file; how many."""
    with Spool(target) as spool:
        spool.add_file(source, seed, findings, progress)
        ranks = spool.ranks()
        wanted = round(rows * len(ranks)) if rows < 1 else int(rows)
        if not 0 < wanted <= len(ranks):
            raise InvalidData(
                f"{wanted} rows asked of {source}, which has {len(ranks)} good rows", param="rows"
            )
        _write(spool, sorted(ranks[:wanted].tolist()), source, target, findings)
    return wanted


def mix(
    sources: list[tuple[Path, float]],
    target: Path,
    rows: int | None,
    seed: int,
    findings: Findings,
    progress: Progress = int,
) -> dict[str, int]:
    """Rows of several files by weight, in drawn order; how many of each.

    Without `rows`, as many as the weights allow before a file is used up. No row is taken twice.
    Raises InvalidData for different formats, a bad weight, or a file too short.
    """
    found = {str(path): find_format(path, None).name for path, _ in sources}
    if len(set(found.values())) > 1:
        raise InvalidData(
            f"the files differ in format ({shown(found, 200)}); convert them to one first",
            param="files",
        )
    if not sources or any(weight <= 0 for _, weight in sources):
        raise InvalidData("every file needs a weight above 0, as in rows.jsonl:0.7", param="files")
    with Spool(target) as spool:
        for path, _ in sources:
            spool.add_file(path, seed, findings, progress)
        ranks = [spool.ranks(number) for number in range(len(sources))]
        counts = _counts(sources, [len(rank) for rank in ranks], rows)
        chosen = np.concatenate([rank[:count] for rank, count in zip(ranks, counts, strict=True)])
        _write(spool, spool.sorted(chosen), sources[0][0], target, findings)
    return {str(path): count for (path, _), count in zip(sources, counts, strict=True)}


def _counts(sources: list[tuple[Path, float]], sizes: list[int], rows: int | None) -> list[int]:
    total = sum(weight for _, weight in sources)
    shares = [weight / total for _, weight in sources]
    if rows is None:
        rows = int(min(size / share for size, share in zip(sizes, shares, strict=True)) + 1e-9)
    counts = [round(rows * share) for share in shares]
    for (path, _), count, size in zip(sources, counts, sizes, strict=True):
        if count > size:
            raise InvalidData(
                f"{path} has {size} good rows, {count} are needed; lower --rows or its weight",
                param="rows",
            )
    return counts


def _write(spool: Spool, order: list[int], source: Path, target: Path, findings: Findings) -> None:
    if not order:
        raise InvalidData(f"{source} has no good row", param=str(source))
    with containers.create(target, Place(findings, str(target))) as writer:
        spool.write(order, writer)


def _counted(values: Iterator[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    for number, value in enumerate(values, 1):
        if not number % 1000:
            progress(1000)
        yield value
