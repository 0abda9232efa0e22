"""How much memory a LoRA training needs, roughly, and how much there is."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from corral.registry.training_memory import Dimensions, step_bytes

_SHARE = 0.8  # of what is free


class Shape(NamedTuple):
    """What an estimate needs to know of a loaded model."""

    parameters: int
    dimensions: Dimensions


class Step(NamedTuple):
    """What a micro-batch is: its tokens, its longest row, and how it is computed; `lanes` of them at once."""

    tokens: int
    longest: int
    bf16: bool
    device: torch.device
    lanes: int = 1


def shape_of(model: Any) -> Shape:
    """Read it from a transformers model."""
    config = model.config.get_text_config()
    hidden = config.hidden_size
    sizes = Dimensions(
        config.num_hidden_layers,
        hidden,
        getattr(config, "intermediate_size", None) or 4 * hidden,
        config.num_attention_heads,
        config.vocab_size,
    )
    return Shape(sum(p.numel() for p in model.parameters()), sizes)


def for_step(shape: Shape, step: Step) -> int:
    """Bytes that the micro-batches under way need beside the weights, without gradient checkpointing."""
    cpu = step.device.type == "cpu"
    return step.lanes * step_bytes(
        shape.dimensions, step.tokens, step.longest, bf16=step.bf16, cpu=cpu, checkpointed=False
    )


def free(device: torch.device) -> int:
    """Bytes free on the device; for a CPU within the limit of the control group, where there is one."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_available(), _group_rest())


def wants_checkpointing(shape: Shape, step: Step) -> bool:
    """Whether a step would not fit without gradient checkpointing."""
    return for_step(shape, step) > _SHARE * free(step.device)


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
