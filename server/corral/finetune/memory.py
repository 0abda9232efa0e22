"""How much memory a training takes, and whether it fits beside what runs: an estimate.

The trainer keeps the frozen weights in 32 bits; `corral.registry.fit_training` has the published
formulas for 16, hence the factor. Right within a factor of two (docs/finetuning.md).
"""

from dataclasses import dataclass
from pathlib import Path

from corral import machine
from corral.machine import Memory
from corral.registry.fit import Shape
from corral.registry.fit_subject import shard_paths
from corral.registry.fit_training import training
from corral.registry.gguf_header import read_header

# torch and transformers themselves, measured on a CPU; with CUDA the driver takes about as much again.
FRAMEWORK = 600 * 1024**2
FULL = 2  # 32 bits where the formulas count 16
TOKENS = 4096  # the trainer's own `micro_tokens`
RANK_SMALL, RANK_LARGE, SMALL = 32, 16, 100_000_000


@dataclass(frozen=True)
class Need:
    """Bytes: `usual`, and `least` with gradient checkpointing, which the trainer turns on by itself."""

    usual: int
    least: int


def need_of(model: Path, tokens: int | None, rank: int | None) -> Need:
    """What a LoRA over this GGUF takes with steps of so many tokens at once."""
    shape = Shape([read_header(shard, details=True) for shard in shard_paths(model)])
    usual_rank = RANK_SMALL if shape.parameters < SMALL else RANK_LARGE
    lora = next(
        each
        for each in training(shape, tokens or TOKENS, rank or usual_rank)
        if each.method == "lora"
    )
    fixed = FRAMEWORK + FULL * lora.weights + lora.gradients + lora.optimiser
    return Need(fixed + FULL * lora.activations, fixed + FULL * lora.checkpointed)


def place_for(device: str, bin_dir: Path) -> Memory:
    """The memory that the training will be in: the GPU with most room, unless it is for the CPU."""
    gpus = machine.gpus(bin_dir) if device in ("auto", "cuda") else ()
    return max(gpus, key=lambda gpu: gpu.free) if gpus else machine.memory()


def gigabytes(size: int) -> str:
    """`1.5 GB`."""
    return f"{size / 1e9:,.1f} GB"
