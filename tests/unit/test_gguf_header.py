"""Reading a header: what is said is checked before it is believed."""

import os
import struct
import time
from pathlib import Path

import pytest

from corral.errors import InvalidModel
from corral.registry.gguf_header import read_header
from tests.fakes.gguf_file import gguf, metadata, text, write_adapter, write_model
from tests.fakes.gguf_mutants import mutants
from tests.fakes.gguf_ordeal import ordeal

HEAD = b"GGUF" + struct.pack("<I", 3)


def test_a_sound_model_is_read(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    assert header.architecture == "llama"
    assert header.context_length == 4096
    assert header.array_lengths == {"tokenizer.ggml.tokens": 3}
    assert header.tensor_types == {0: 1}
    assert not header.is_adapter


def test_an_adapter_is_known_as_one(tmp_path: Path) -> None:
    assert read_header(write_adapter(tmp_path / "a.gguf", "m")).is_adapter


@pytest.mark.parametrize("cut", [1, 32, 100, 200])
def test_a_truncated_file_is_told(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf()[:-cut])
    with pytest.raises(InvalidModel, match="corrupt or truncated"):
        read_header(path)


def test_truncations_all_over_a_file_are_refused(tmp_path: Path) -> None:
    whole = gguf()
    path = tmp_path / "m.gguf"
    for length in [*range(0, len(whole), 5), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidModel):
            read_header(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04zip", "is no GGUF"),
        (b"GGUF" + struct.pack("<I", 99), "version 99"),
        (HEAD + struct.pack("<QQ", 1 << 60, 0), "tensor count is 1152921504606846976"),
        (HEAD + struct.pack("<QQ", 0, 1 << 50), "metadata count is 1125899906842624"),
        (HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 40), "length of the name"),
        (HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<I", 77), "unknown type 77"),
        (
            HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 1 << 25),
            "the file ends first",
        ),
        (
            HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1),
            "an array of the unknown type 9",
        ),
        (
            HEAD + struct.pack("<QQ", 0, 1) + metadata("general.alignment", 3),
            "not a power of two",
        ),
        (
            HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<I", 9),
            "dimensions of `t` is 9",
        ),
        (
            HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQIQ", 1, 8, 999, 0),
            "unknown type 999",
        ),
        (
            HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQIQ", 1, 1 << 47, 0, 0),
            "bytes of the weights are missing",
        ),
    ],
)
def test_a_hostile_header_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=message):
        read_header(path)


def test_a_type_newer_than_the_gguf_package_is_measured(tmp_path: Path) -> None:
    # Q2_0: 128 weights are two blocks of 18 bytes.
    head = HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQIQ", 1, 128, 42, 0)
    path = tmp_path / "m.gguf"
    path.write_bytes(head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(36))
    assert read_header(path, details=True).tensors[0].bytes == 36
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidModel, match="the last 1 bytes of the weights are missing"):
        read_header(path)


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="is missing"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(InvalidModel, match="cannot be read"):
        read_header(tmp_path)


def test_damaged_headers_are_read_or_refused_quickly_in_little_memory(tmp_path: Path) -> None:
    """The short form of tests/long/test_gguf_fuzz.py."""
    outcomes = ordeal(mutants(seed=1, count=300), tmp_path / "m.gguf")
    assert outcomes.total() == 300
    assert set(outcomes) == {"read", "refused"}
    assert outcomes["refused"] > 150
    assert outcomes["read"] > 30


@pytest.mark.parametrize(
    ("kind", "count", "message"),
    [(8, 1 << 26, "over 4194304 strings"), (4, 1 << 26, "the header longer than 268435456 bytes")],
)
def test_a_sparse_giant_is_judged_without_reading_it(
    tmp_path: Path, kind: int, count: int, message: str
) -> None:
    path = tmp_path / "m.gguf"
    array = struct.pack("<IIQ", 9, kind, count)
    path.write_bytes(HEAD + struct.pack("<QQ", 0, 2) + text("k") + array)
    os.truncate(path, 1 << 40)
    with pytest.raises(InvalidModel, match=message):
        read_header(path)


def test_a_long_name_floods_no_message_and_costs_no_time(tmp_path: Path) -> None:
    """Once the name of an array was put together with every string in it."""
    name = "k" * 65_535
    strings = struct.pack("<IIQ", 9, 8, 200_000) + bytes(8 * 200_000)
    path = tmp_path / "m.gguf"
    path.write_bytes(HEAD + struct.pack("<QQ", 0, 2) + text(name) + strings + text(name))
    began = time.process_time()
    with pytest.raises(InvalidModel) as refused:
        read_header(path)
    assert time.process_time() - began < 1
    assert len(refused.value.message) < 1000
    path.write_bytes(HEAD + struct.pack("<QQ", 0, 1) + text(name + "k"))
    with pytest.raises(InvalidModel, match="name of metadata 0 is 65536, at most 65535 is allowed"):
        read_header(path)
