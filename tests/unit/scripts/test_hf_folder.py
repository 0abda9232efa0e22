"""What is said of a folder that cannot be converted."""

import json
import struct
from pathlib import Path

import pytest

from corral.errors import InvalidModel
from hf_folder import inspect


def safetensors(path: Path, declared: int, stored: int) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, declared]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * stored)


def folder(tmp_path: Path, declared: int = 8, stored: int = 8) -> Path:
    (tmp_path / "config.json").write_text("{}")
    safetensors(tmp_path / "model.safetensors", declared, stored)
    return tmp_path


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    found = inspect(folder(tmp_path))
    assert not found.is_adapter
    assert [file.name for file in found.weights] == ["model.safetensors"]


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel) as caught:
        inspect(tmp_path)
    assert caught.value.message == (
        f"{tmp_path} has no config.json, so it is no Hugging Face model; for a LoRA it would have "
        "adapter_config.json. A GGUF needs no converting: corral models add FILE"
    )


def test_weights_that_are_cut_short(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"model\.safetensors is cut short: \d+ bytes of \d+"):
        inspect(folder(tmp_path, declared=1000))


def test_a_missing_shard(tmp_path: Path) -> None:
    folder(tmp_path)
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match=r"model-00001-of-00002\.safetensors is missing"):
        inspect(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\xff" * 100, struct.pack("<Q", 2) + b"[]"])
def test_what_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"model\.safetensors"):
        inspect(tmp_path)
