"""A Hugging Face folder before it is converted: what it is, and whether its weights are whole.

Checks config.json, the list of shards, and that each safetensors file is as long as its own header
says. Does not read the weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import InvalidModel

CONFIG, ADAPTER = "config.json", "adapter_config.json"
INDEX = "model.safetensors.index.json"
MAX_HEADER = 100 * 1024 * 1024


@dataclass(frozen=True)
class HfFolder:
    """A folder that may be converted. `base` is what an adapter says it was trained over."""

    path: Path
    is_adapter: bool
    weights: tuple[Path, ...]
    base: str = ""

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.weights)


def inspect(folder: Path) -> HfFolder:
    """What the folder holds; InvalidModel says what is missing or cut short."""
    if not folder.is_dir():
        raise InvalidModel(f"{folder} is no folder; give the one with {CONFIG}", param="dir")
    if (folder / ADAPTER).is_file():
        base = str(_json(folder / ADAPTER).get("base_model_name_or_path") or "")
        weights = _whole(folder, ("adapter_model.safetensors",))
        return HfFolder(folder, True, weights, base)
    if not (folder / CONFIG).is_file():
        raise InvalidModel(
            f"{folder} has no {CONFIG}, so it is no Hugging Face model; for a LoRA it would have "
            f"{ADAPTER}. A GGUF needs no converting: corral models add FILE",
            param="dir",
        )
    _json(folder / CONFIG)
    return HfFolder(folder, False, _whole(folder, _shards(folder)))


def _shards(folder: Path) -> tuple[str, ...]:
    if not (folder / INDEX).is_file():
        return ("model.safetensors",)
    listed = _json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InvalidModel(f"{folder / INDEX} lists no files under `weight_map`", param="dir")
    return tuple(sorted({Path(str(name)).name for name in listed.values()}))


def _whole(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    files = tuple(folder / name for name in names)
    for file in files:
        if not file.is_file():
            raise InvalidModel(f"{file} is missing; fetch the model again", param="dir")
        check_safetensors(file)
    return files


def check_safetensors(path: Path) -> None:
    """InvalidModel unless the file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise InvalidModel(
                f"{path} is no safetensors file, or cut short: {size} bytes, its header alone would "
                f"be {length}; fetch the model again",
                param="dir",
            )
        try:
            header = json.loads(file.read(length))
            ends = [item["data_offsets"][1] for k, item in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InvalidModel(f"{path}: its header is damaged ({error!r})", param="dir") from None
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        raise InvalidModel(
            f"{path} is cut short: {size} bytes of {needed}; fetch the model again", param="dir"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{path} cannot be read: {error}", param="dir") from None
    if not isinstance(found, dict):
        raise InvalidModel(f"{path} holds no JSON object", param="dir")
    return found
