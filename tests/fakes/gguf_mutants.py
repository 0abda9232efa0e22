"""Damaged GGUF headers, made from real ones by a seed: the same seed gives the same bytes."""

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.registry.gguf_header import parse_header
from tests.fakes.gguf_file import gguf

# What counts and lengths are replaced by: at the limits of the reader and of the integers.
HUGE = [0, 1, 255, 65_536, 65_537, 1 << 20, 1 << 24, (1 << 26) + 1, 1 << 31, 1 << 32, 1 << 48]
HUGE += [(1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@dataclass(frozen=True)
class Seedling:
    """A sound header, the size of its whole file, and where its numbers are."""

    header: bytes
    size: int
    types: tuple[int, ...]
    counts: tuple[int, ...]


class _Noting(io.BytesIO):
    """Notes where 4 and 8 bytes are read: types and dimensions, and counts and lengths."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.places: dict[int, list[int]] = {4: [], 8: []}

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and note."""
        if size in self.places:
            self.places[size].append(self.tell())
        return super().read(size)


def seedling(content: bytes) -> Seedling:
    """What is needed of a sound file to damage its header."""
    noting = _Noting(content)
    header = parse_header(noting, len(content), "seedling")
    places = noting.places
    return Seedling(content[: header.data_start], len(content), tuple(places[4]), tuple(places[8]))


def seedlings(models: Path | None = None) -> list[Seedling]:
    """Headers of a small model, an adapter, a split model; and of every GGUF in `models`."""
    made = [
        gguf(),
        gguf({"general.type": "adapter", "general.base_model.0.name": "tiny"}),
        gguf({"split.count": 2, "general.alignment": 64, "llama.pooling_type": 1}),
    ]
    real = [path.read_bytes() for path in sorted(models.glob("*.gguf"))] if models else []
    return [seedling(content) for content in [*made, *real]]


def _flipped(random_: random.Random, seed: Seedling) -> bytes:
    changed = bytearray(seed.header)
    for _ in range(random_.randint(1, 8)):
        changed[random_.randrange(len(changed))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _cut(random_: random.Random, seed: Seedling) -> bytes:
    return seed.header[: random_.randrange(len(seed.header))]


def _huge(random_: random.Random, seed: Seedling) -> bytes:
    at = random_.choice(seed.counts)
    value = random_.choice(HUGE).to_bytes(8, "little")
    return seed.header[:at] + value + seed.header[at + 8 :]


def _swapped(random_: random.Random, seed: Seedling) -> bytes:
    at = random_.choice(seed.types)
    value = random_.randrange(48).to_bytes(4, "little")
    return seed.header[:at] + value + seed.header[at + 4 :]


def _spliced(random_: random.Random, seed: Seedling) -> bytes:
    """A piece of the header once more, or missing: everything after it is out of step."""
    start = random_.randrange(len(seed.header))
    end = min(len(seed.header), start + random_.randint(1, 64))
    piece = random_.choice([b"", seed.header[start:end] * 2])
    return seed.header[:start] + piece + seed.header[end:]


MUTATIONS: tuple[Callable[[random.Random, Seedling], bytes], ...] = (
    _flipped,
    _cut,
    _huge,
    _swapped,
    _spliced,
)


def mutants(seed: int, count: int, models: Path | None = None) -> Iterator[tuple[bytes, int]]:
    """Damaged headers, each with the size that its file is to have. A cut one has no more than its
    header; the weights of the others are zeros."""
    random_ = random.Random(seed)
    sound = seedlings(models)
    for number in range(count):
        kind = MUTATIONS[number % len(MUTATIONS)]
        picked = random_.choice(sound)
        header = kind(random_, picked)
        if kind is not _cut and random_.random() < 0.3:
            header = kind(random_, Seedling(header, picked.size, picked.types, picked.counts))
        yield header, len(header) if kind is _cut else picked.size + 64
