"""How much memory a LoRA training needs, roughly, and how much there is."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

# Kept for the backward pass for each token, layer and hidden unit, in bytes: measured on the bundled base (docs/finetuning.md).
_ACTIVATIONS = {"fp32": 68, "bf16": 44}
_SHARE = 0.8  # of what is free; estimates are right within a factor of two


class Shape(NamedTuple):
    """What an estimate needs to know of a loaded model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int


def shape_of(model: Any) -> Shape:
    """Read it from a transformers model."""
    config = model.config.get_text_config()
    return Shape(
        sum(p.numel() for p in model.parameters()),
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
    )


def for_step(shape: Shape, tokens: int, precision: str, *, checkpointing: bool) -> int:
    """Bytes that one micro-batch of so many tokens needs beside the weights."""
    kept = _ACTIVATIONS[precision] * shape.hidden * tokens
    # With gradient checkpointing: every layer's input, and one layer's activations at a time.
    layers = (
        kept + 4 * shape.hidden * tokens * shape.layers if checkpointing else kept * shape.layers
    )
    logits = 12 * min(tokens * shape.vocabulary, 64_000_000)
    return layers + logits


def free(device: torch.device) -> int:
    """Bytes free on the device; for a CPU within the limit of the control group, where there is one."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_available(), _group_rest())


def wants_checkpointing(shape: Shape, tokens: int, precision: str, device: torch.device) -> bool:
    """Whether a step would not fit without gradient checkpointing."""
    need = for_step(shape, tokens, precision, checkpointing=False)
    return need > _SHARE * free(device)


def _available() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 1 << 62
    line = next((each for each in text.splitlines() if each.startswith("MemAvailable")), None)
    return int(line.split()[1]) * 1024 if line else 1 << 62


def _group_rest() -> int:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return 1 << 62
    return int(limit) - used if limit.isdigit() else 1 << 62
