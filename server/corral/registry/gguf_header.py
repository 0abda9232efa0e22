"""Read a GGUF file's header without trusting it.

Covers: magic, version, counts, strings and arrays against the file's size and fixed limits, and
that the file is long enough for every tensor it declares. Reads at most `MAX_HEADER` bytes and
allocates no more than it has read. `details` also keeps every tensor's shape and the short numeric
arrays (up to `MAX_LISTED` of each). Does not cover: the weights themselves (a flipped bit in a
tensor passes; `corral models verify` compares checksums for that).
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from corral.errors import InvalidModel

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 65_536
MAX_TENSORS = 1_048_576
MAX_DIMS = 4
MAX_STRING = 16 * 1024 * 1024
MAX_NAME = 65_535  # of keys, by the format; and of tensors, where llama.cpp takes 64
MAX_SHOWN = 500  # characters of a file's own words in a message
MAX_ARRAY = 64 * 1024 * 1024
MAX_HEADER = 256 * 1024 * 1024
# Strings in arrays, over the whole file: the largest vocabularies with their merges hold about one
# million, and each costs a read.
MAX_STRINGS = 4 * 1024 * 1024
DEFAULT_ALIGNMENT = 32
# With `details`: tensors listed, and numbers of arrays kept in all. The largest models have a few
# thousand tensors, and one number for each layer.
MAX_LISTED = 65_536
MAX_KEPT_ARRAY = 1_024

# Value types of the GGUF format: number -> struct code. 8 is a string, 9 an array.
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
# Tensor types of the pinned llama.cpp that the gguf package does not know yet: number -> name,
# weights in a block, bytes of a block.
NEWER_TYPES = {42: ("Q2_0", 64, 18)}
LENGTH = struct.Struct("<Q")

Number = int | float | bool
Scalar = Number | str


class Source(Protocol):
    """What a header can be read from: an open file, or a remote one."""

    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True)
class Tensor:
    """One tensor: llama.cpp's name, extents (fastest first), ggml type number, bytes in the file."""

    name: str
    shape: tuple[int, ...]
    type: int
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF says about itself. Of arrays only the lengths are kept, unless `details`.

    `data_start` is where the weights begin; all before it is the header.
    """

    version: int
    metadata: dict[str, Scalar]
    array_lengths: dict[str, int]
    tensor_count: int
    size: int
    tensor_types: dict[int, int] = field(default_factory=dict)
    data_start: int = 0
    arrays: dict[str, tuple[Number, ...]] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        """Whether this is a LoRA adapter, not a model."""
        return self.metadata.get("general.type") == "adapter"

    @property
    def context_length(self) -> int | None:
        """The context the model was trained for."""
        value = self.metadata.get(f"{self.architecture}.context_length")
        return value if isinstance(value, int) else None


class _Reader:
    """A cursor that refuses to read past the file or past `MAX_HEADER`."""

    def __init__(self, file: Source, name: str, size: int, *, details: bool = False) -> None:
        self._file, self.name, self.size, self.at = file, name, size, 0
        self.details, self.strings, self.kept = details, 0, 0

    def fail(self, what: str) -> InvalidModel:
        what = what if len(what) <= MAX_SHOWN else f"{what[:MAX_SHOWN]}…"
        return InvalidModel(
            f"model file {self.name} is corrupt or truncated: {what} (at byte {self.at} of "
            f"{self.size}); fetch or convert it again",
            param=self.name,
        )

    def take(self, count: int, what: str) -> bytes:
        self._advance(count, what)
        data = self._file.read(count)
        if len(data) != count:
            raise self.fail(f"{what} needs {count} bytes, {len(data)} could be read")
        return data

    def skip(self, count: int, what: str) -> None:
        self._advance(count, what)
        self._file.seek(count, 1)

    def _advance(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise self.fail(f"{what} needs {count} bytes, the file ends first")
        if self.at + count > MAX_HEADER:
            raise self.fail(f"{what} would make the header longer than {MAX_HEADER} bytes")
        self.at += count

    def number(self, code: str, what: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(
            "<" + code, self.take(struct.calcsize(code), what)
        )[0]
        return value

    def integer(self, code: str, what: str, limit: int) -> int:
        value = int(self.number(code, what))
        if value > limit:
            raise self.fail(f"{what} is {value}, at most {limit} is allowed")
        return value

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        length = self.integer("Q", f"length of {what}", limit)
        return self.take(length, what).decode("utf-8", errors="replace")

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over strings, checked like others, in one loop: a vocabulary has a million."""
        read, seek, unpack = self._file.read, self._file.seek, LENGTH.unpack
        end = min(self.size, MAX_HEADER)
        for _ in range(count):
            length = unpack(head)[0] if len(head := read(8)) == 8 else end
            if length > MAX_STRING or self.at + 8 + length > end:
                raise self.fail(f"{what} would end after {end} bytes, where the header must end")
            seek(length, 1)
            self.at += 8 + length


def read_header(path: Path, *, details: bool = False) -> Header:
    """Read and check the header of `path`; raise InvalidModel saying what is wrong and where."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return parse_header(file, size, str(path), details=details)
    except FileNotFoundError as error:
        raise InvalidModel(f"model file {path} is missing", param=str(path)) from error
    except OSError as error:
        raise InvalidModel(f"model file {path} cannot be read: {error}", param=str(path)) from error


def parse_header(file: Source, size: int, name: str, *, details: bool = False) -> Header:
    """The header at the start of `file`, whose whole length is `size`; `name` is for messages."""
    reader = _Reader(file, name, size, details=details)
    if reader.size == 0:
        raise reader.fail("it is empty")
    magic = reader.take(4, "the magic")
    if magic != MAGIC:
        raise InvalidModel(
            f"model file {name} is no GGUF: it begins with {magic!r}, not {MAGIC!r}; convert it "
            "first (`corral models convert`)",
            param=name,
        )
    version = int(reader.number("I", "the version"))
    if version not in VERSIONS:
        raise InvalidModel(
            f"model file {name} has GGUF version {version}; this llama.cpp reads {VERSIONS}",
            param=name,
        )
    tensors = reader.integer("Q", "the tensor count", MAX_TENSORS)
    keys = reader.integer("Q", "the metadata count", MAX_KEYS)
    metadata, lengths, arrays = _metadata(reader, keys)
    alignment = _alignment(reader, metadata)
    types, listed = _tensors(reader, tensors, alignment)
    start = _padded(reader.at, alignment)
    return Header(version, metadata, lengths, tensors, reader.size, types, start, arrays, listed)


Metadata = tuple[dict[str, Scalar], dict[str, int], dict[str, tuple[Number, ...]]]


def _metadata(reader: _Reader, count: int) -> Metadata:
    """Scalars and strings, the lengths of all arrays, and the arrays that are kept."""
    values: dict[str, Scalar] = {}
    lengths: dict[str, int] = {}
    arrays: dict[str, tuple[Number, ...]] = {}
    for index in range(count):
        key = reader.string(f"the name of metadata {index}", MAX_NAME)
        kind = int(reader.number("I", f"the type of `{key}`"))
        if kind == STRING:
            values[key] = reader.string(f"`{key}`")
        elif kind == ARRAY:
            lengths[key], kept = _array(reader, key)
            if kept is not None:
                arrays[key] = kept
        elif kind in SCALARS:
            values[key] = reader.number(SCALARS[kind], f"`{key}`")
        else:
            raise reader.fail(f"`{key}` has the unknown type {kind}")
    return values, lengths, arrays


def _array(reader: _Reader, key: str) -> tuple[int, tuple[Number, ...] | None]:
    """Its length; and its numbers where details are wanted and they are few, else None."""
    kind = int(reader.number("I", f"the element type of `{key}`"))
    length = reader.integer("Q", f"the length of `{key}`", MAX_ARRAY)
    if kind == STRING:
        reader.strings += length
        if reader.strings > MAX_STRINGS:
            raise reader.fail(f"its arrays hold over {MAX_STRINGS} strings")
        reader.skip_strings(length, f"a string in `{key}`")
    elif kind in SCALARS:
        size = length * struct.calcsize("<" + SCALARS[kind])
        if reader.details and length <= MAX_KEPT_ARRAY and reader.kept + length <= MAX_LISTED:
            reader.kept += length
            return length, struct.unpack(f"<{length}{SCALARS[kind]}", reader.take(size, f"`{key}`"))
        reader.skip(size, f"`{key}`")
    else:
        raise reader.fail(f"`{key}` is an array of the unknown type {kind}")
    return length, None


def _padded(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _alignment(reader: _Reader, metadata: dict[str, Scalar]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value <= 0 or value > 65_536 or value & (value - 1):
        raise reader.fail(f"`general.alignment` is {value!r}, not a power of two up to 65536")
    return value


def _tensors(
    reader: _Reader, count: int, alignment: int
) -> tuple[dict[int, int], tuple[Tensor, ...]]:
    """Check that every tensor lies inside the file; how many of each type, and with details all."""
    if reader.details and count > MAX_LISTED:
        raise reader.fail(f"it has {count} tensors, at most {MAX_LISTED} can be listed")
    end = 0
    types: dict[int, int] = {}
    listed: list[Tensor] = []
    for index in range(count):
        name = reader.string(f"the name of tensor {index}", MAX_NAME)
        dims = reader.integer("I", f"the dimensions of `{name}`", MAX_DIMS)
        shape = [reader.integer("Q", f"the shape of `{name}`", 1 << 48) for _ in range(dims)]
        kind = int(reader.number("I", f"the type of `{name}`"))
        offset = reader.integer("Q", f"the offset of `{name}`", 1 << 62)
        size = _tensor_bytes(reader, name, shape, kind)
        end = max(end, offset + size)
        types[kind] = types.get(kind, 0) + 1
        if reader.details:
            listed.append(Tensor(name, tuple(shape), kind, size))
    missing = _padded(reader.at, alignment) + end - reader.size
    if count and missing > 0:
        raise reader.fail(f"the last {missing} bytes of the weights are missing")
    return types, tuple(listed)


def _tensor_bytes(reader: _Reader, name: str, shape: list[int], kind: int) -> int:
    block, size = _block(kind)
    if not block:
        raise reader.fail(f"tensor `{name}` has the unknown type {kind}")
    elements = 1
    for extent in shape:
        elements *= extent
    blocks: int = -(-elements // block)
    return blocks * int(size)


def _block(kind: int) -> tuple[int, int]:
    """Weights and bytes of one block of a tensor type; zeros for an unknown one."""
    # gguf imports numpy (0.15 s): only when a file is really read, not for `corral --help`.
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if kind in NEWER_TYPES:
        return NEWER_TYPES[kind][1:]
    try:
        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return int(weights), int(size)
    except (ValueError, KeyError):
        return 0, 0
