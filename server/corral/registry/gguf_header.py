"""Read a GGUF file's header without trusting it.

Covers: magic, version, counts, strings and arrays against the file's size and fixed limits, and
that the file is long enough for every tensor it declares. Reads at most `MAX_HEADER` bytes and
allocates no more than it has read. Does not cover: the weights themselves (a flipped bit in a
tensor passes; `corral models verify` compares checksums for that).
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from corral.errors import InvalidModel

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 65_536
MAX_TENSORS = 1_048_576
MAX_DIMS = 4
MAX_STRING = 16 * 1024 * 1024
MAX_ARRAY = 64 * 1024 * 1024
MAX_HEADER = 256 * 1024 * 1024
# Strings in arrays, over the whole file: the largest vocabularies with their merges hold about one
# million, and each costs a read.
MAX_STRINGS = 4 * 1024 * 1024
DEFAULT_ALIGNMENT = 32

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

Scalar = int | float | bool | str


@dataclass(frozen=True)
class Header:
    """What a GGUF says about itself. Arrays are skipped; only their lengths are kept."""

    version: int
    metadata: dict[str, Scalar]
    array_lengths: dict[str, int]
    tensor_count: int
    size: int
    tensor_types: dict[int, int] = field(default_factory=dict)

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

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self._file, self._path, self.size, self.at = file, path, size, 0
        self.strings = 0

    def fail(self, what: str) -> InvalidModel:
        return InvalidModel(
            f"model file {self._path} is corrupt or truncated: {what} (at byte {self.at} of "
            f"{self.size}); fetch or convert it again",
            param=str(self._path),
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

    def string(self, what: str) -> str:
        length = self.integer("Q", f"length of {what}", MAX_STRING)
        return self.take(length, what).decode("utf-8", errors="replace")


def read_header(path: Path) -> Header:
    """Read and check the header of `path`; raise InvalidModel saying what is wrong and where."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _parse(_Reader(file, path, size), path)
    except FileNotFoundError as error:
        raise InvalidModel(f"model file {path} is missing", param=str(path)) from error
    except OSError as error:
        raise InvalidModel(f"model file {path} cannot be read: {error}", param=str(path)) from error


def _parse(reader: _Reader, path: Path) -> Header:
    if reader.size == 0:
        raise reader.fail("it is empty")
    magic = reader.take(4, "the magic")
    if magic != MAGIC:
        raise InvalidModel(
            f"model file {path} is no GGUF: it begins with {magic!r}, not {MAGIC!r}; convert it "
            "first (`corral models convert`)",
            param=str(path),
        )
    version = int(reader.number("I", "the version"))
    if version not in VERSIONS:
        raise InvalidModel(
            f"model file {path} has GGUF version {version}; this llama.cpp reads {VERSIONS}",
            param=str(path),
        )
    tensors = reader.integer("Q", "the tensor count", MAX_TENSORS)
    keys = reader.integer("Q", "the metadata count", MAX_KEYS)
    metadata, lengths = _metadata(reader, keys)
    types = _tensors(reader, tensors, _alignment(reader, metadata))
    return Header(version, metadata, lengths, tensors, reader.size, types)


def _metadata(reader: _Reader, count: int) -> tuple[dict[str, Scalar], dict[str, int]]:
    values: dict[str, Scalar] = {}
    lengths: dict[str, int] = {}
    for index in range(count):
        key = reader.string(f"the name of metadata {index}")
        kind = int(reader.number("I", f"the type of `{key}`"))
        if kind == STRING:
            values[key] = reader.string(f"`{key}`")
        elif kind == ARRAY:
            lengths[key] = _skip_array(reader, key)
        elif kind in SCALARS:
            values[key] = reader.number(SCALARS[kind], f"`{key}`")
        else:
            raise reader.fail(f"`{key}` has the unknown type {kind}")
    return values, lengths


def _skip_array(reader: _Reader, key: str) -> int:
    kind = int(reader.number("I", f"the element type of `{key}`"))
    length = reader.integer("Q", f"the length of `{key}`", MAX_ARRAY)
    if kind == STRING:
        reader.strings += length
        if reader.strings > MAX_STRINGS:
            raise reader.fail(f"its arrays hold over {MAX_STRINGS} strings")
        for _ in range(length):
            reader.skip(reader.integer("Q", f"a string in `{key}`", MAX_STRING), f"`{key}`")
    elif kind in SCALARS:
        reader.skip(length * struct.calcsize("<" + SCALARS[kind]), f"`{key}`")
    else:
        raise reader.fail(f"`{key}` is an array of the unknown type {kind}")
    return length


def _alignment(reader: _Reader, metadata: dict[str, Scalar]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value <= 0 or value > 65_536 or value & (value - 1):
        raise reader.fail(f"`general.alignment` is {value!r}, not a power of two up to 65536")
    return value


def _tensors(reader: _Reader, count: int, alignment: int) -> dict[int, int]:
    """Check that every tensor lies inside the file; return how many there are of each type."""
    ends: list[int] = []
    types: dict[int, int] = {}
    for index in range(count):
        name = reader.string(f"the name of tensor {index}")
        dims = reader.integer("I", f"the dimensions of `{name}`", MAX_DIMS)
        shape = [reader.integer("Q", f"the shape of `{name}`", 1 << 48) for _ in range(dims)]
        kind = int(reader.number("I", f"the type of `{name}`"))
        offset = reader.integer("Q", f"the offset of `{name}`", 1 << 62)
        ends.append(offset + _tensor_bytes(reader, name, shape, kind))
        types[kind] = types.get(kind, 0) + 1
    data_start = -(-reader.at // alignment) * alignment
    if ends and data_start + max(ends) > reader.size:
        missing = data_start + max(ends) - reader.size
        raise reader.fail(f"the last {missing} bytes of the weights are missing")
    return types


def _tensor_bytes(reader: _Reader, name: str, shape: list[int], kind: int) -> int:
    # gguf imports numpy (0.15 s): only when a file is really read, not for `corral --help`.
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise reader.fail(f"tensor `{name}` has the unknown type {kind}") from None
    elements = 1
    for extent in shape:
        elements *= extent
    blocks: int = -(-elements // block)
    return blocks * int(size)
