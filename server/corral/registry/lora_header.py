"""What the GGUF of a LoRA says of its shape. Its weights are not read."""

from pathlib import Path
from typing import NamedTuple

from corral.errors import InvalidModel
from corral.registry.gguf_header import read_header

ALPHA, INVOCATION = "adapter.lora.alpha", "adapter.alora.invocation_tokens"


class Lora(NamedTuple):
    """Its effect is `alpha / rank` times the product of each pair of matrices."""

    rank: int
    alpha: float


def read_lora(path: Path) -> Lora:
    """InvalidModel unless `path` is a plain LoRA with one rank for all layers."""
    header = read_header(path, details=True)
    a, b = (
        {t.name[: -len(end)]: t.shape[-1] for t in header.tensors if t.name.endswith(end)}
        for end in (".lora_a", ".lora_b")
    )
    plain = header.metadata.get("adapter.type") == "lora" and INVOCATION not in header.array_lengths
    pairs = a.keys() == b.keys() and len(a) + len(b) == header.tensor_count
    if not plain or not pairs or len(set(a.values())) != 1:
        raise InvalidModel(
            f"{path.name} is no plain LoRA with one rank for all layers: a training cannot go on from it",
            param="model",
        )
    rank = next(iter(a.values()))
    # llama.cpp takes 0, and none, for `alpha = rank`.
    return Lora(rank, float(header.metadata.get(ALPHA, 0)) or float(rank))
