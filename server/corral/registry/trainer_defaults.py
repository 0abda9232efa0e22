"""What the trainer takes where nothing else was asked for. scripts/engines goes by it, and so does the estimate of its memory."""

from pathlib import Path

SMALL = 100_000_000  # parameters; below it a model learns at rates that would break a larger one
RANKS = {True: 32, False: 16}
# Tokens computed at once. A CPU is no faster with more (docs/log.md, 2026-11-30); a GPU is left idle by few.
MICRO_TOKENS = {"cpu": 1024}
MICRO_TOKENS_ELSEWHERE = 4096
# Micro-batches computed beside each other (scripts/engines/lanes.py).
LANES = 2
# Tokens of a window of llama-finetune.
TEXT_WINDOW = 512
BF16_FLAGS = "avx512_bf16", "amx_bf16"


def rank_for(parameters: int) -> int:
    """Of a LoRA over a model of so many."""
    return RANKS[parameters < SMALL]


def micro_tokens_on(device: str) -> int:
    """Tokens computed at once on `cpu`, `cuda` or `mps`."""
    return MICRO_TOKENS.get(device, MICRO_TOKENS_ELSEWHERE)


def lanes_on(device: str, parameters: int) -> int:
    """Micro-batches computed at once, at most, of a model of so many parameters."""
    return LANES if device == "cpu" and parameters < SMALL else 1


def multiplies_bf16() -> bool:
    """Whether this processor has instructions for bf16; False where the system does not tell."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("\nflags", 2)[1].splitlines()[0].split()
    except (OSError, IndexError):
        return False
    return any(flag in flags for flag in BF16_FLAGS)
