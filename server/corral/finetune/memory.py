"""How much memory a training takes, and whether it fits beside what runs: an estimate.

On a CPU between 0.9 and 1.3 of what full micro-batches took (`corral.registry.training_memory`).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from corral import machine
from corral.machine import Memory
from corral.registry import training_memory
from corral.registry.fit import Shape
from corral.registry.fit_subject import shard_paths
from corral.registry.fit_training import adapter_parameters
from corral.registry.gguf_header import read_header
from corral.registry.trainer_defaults import lanes_on, micro_tokens_on, multiplies_bf16, rank_for
from corral.registry.training_memory import Dimensions

# Where the rows are not known.
USUAL_LENGTH = 512


@dataclass(frozen=True)
class Need:
    """Bytes: `usual`, and `least` with gradient checkpointing, which the trainer turns on by itself."""

    usual: int
    least: int


@dataclass(frozen=True)
class Training:
    """What a training's memory depends on beside the model; None is the trainer's default. `cpu`: where
    it runs. `full`: every weight, by llama-finetune."""

    tokens: int | None = None
    rank: int | None = None
    longest: int = USUAL_LENGTH
    precision: str = "auto"
    cpu: bool = True
    full: bool = False

    @property
    def bf16(self) -> bool:
        """Whether the trainer computes in bf16: `pays_bf16` of scripts/engines/peft_engine.py."""
        if self.precision == "auto":
            return multiplies_bf16() if self.cpu else sys.platform != "darwin"
        return self.precision == "bf16"


def need_of(model: Path, how: Training) -> Need:
    """What a training of this GGUF takes."""
    shape = Shape([read_header(shard, details=True) for shard in shard_paths(model)])
    if how.full:
        whole = training_memory.full_bytes(dimensions_of(shape), shape.parameters)
        return Need(whole, whole)
    rank = how.rank or rank_for(shape.parameters)
    tokens = max(how.tokens or micro_tokens_on("cpu" if how.cpu else "cuda"), how.longest)
    bf16, cpu = how.bf16, how.cpu
    adapter = adapter_parameters(shape, rank)
    fixed = training_memory.fixed_bytes(shape.parameters, adapter, bf16=bf16, cpu=cpu)
    lanes = lanes_on("cpu" if cpu else "cuda", shape.parameters)
    usual, least = (
        training_memory.step_bytes(
            dimensions_of(shape), tokens, how.longest, bf16=bf16, cpu=cpu, checkpointed=checkpointed
        )
        for checkpointed in (False, True)
    )
    return Need(fixed + lanes * usual, fixed + lanes * least)


def dimensions_of(shape: Shape) -> Dimensions:
    """Read off a GGUF's header."""
    return Dimensions(
        shape.layers,
        shape.hidden,
        shape.number("feed_forward_length"),
        shape.number("attention.head_count", 1),
        shape.vocabulary,
    )


def longest_row(rows: Path | None) -> int:
    """Tokens of the longest of rendered rows; the usual where there are none yet."""
    if rows is None:
        return USUAL_LENGTH
    try:
        return int(json.loads((rows / "rows.json").read_text("utf-8"))["longest"])
    except (OSError, ValueError, KeyError):
        return USUAL_LENGTH


def place_for(device: str, bin_dir: Path) -> Memory:
    """The memory that the training will be in: the GPU with most room, unless it is for the CPU."""
    gpus = machine.gpus(bin_dir) if device in ("auto", "cuda") else ()
    return max(gpus, key=lambda gpu: gpu.free) if gpus else machine.memory()


def gigabytes(size: int) -> str:
    """`1.5 GB`."""
    return f"{size / 1e9:,.1f} GB"
