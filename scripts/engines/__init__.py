"""Training engines: one file each, one interface, chosen by name.

    peft       LoRA by torch, transformers and PEFT, on CPU, CUDA or MPS; the default
    unsloth    the same with Unsloth's CUDA kernels, where installed
    mlx        LoRA by mlx-lm, on Apple GPUs (and, for tests, MLX's CPU build)
    llama.cpp  llama-finetune: every weight, in F32, on raw text; needs no torch

An engine is a class with these methods. All may raise CorralError, and nothing is left that looks
like a result when they do.

    prepare   cheap checks before anything slow: packages, device, method, memory
    train     from the last resume checkpoint in task.work, if there is one, to the end; gives the
              checkpoints, the last of which is the result. `stop()` true: write a resume checkpoint
              and raise Stopped
    export    one checkpoint as GGUF, written whole or not at all; an adapter says its name and its base's
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from corral.errors import BadRequest, CorralError
from engines.hyperparameters import Hyperparameters

NAMES = ("peft", "unsloth", "mlx", "llama.cpp")
Makes = Literal["adapter", "base"]


class Stopped(CorralError):
    """Training was asked to stop and has written a checkpoint to go on from."""

    default_code = "stopped"
    exit_code = 143


@dataclass(frozen=True)
class Task:
    """What to train. `model` is a GGUF file or a Hugging Face folder; `rows` and `valid` are token
    rows, or for an engine with `reads_text` a text file and a share of it. `base` is the model's name,
    for adapters to say; `start` an adapter to begin with."""

    model: Path
    rows: Path
    work: Path
    llama_bin: Path
    llama_source: Path | None
    hyper: Hyperparameters
    valid: Path | None = None
    start: Path | None = None
    device: str = "auto"
    base: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """What one step of training left: a folder that `export` reads, and its metrics."""

    step: int
    folder: Path
    metrics: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """The end of a training. `facts` are for the manifest: steps, tokens, seconds, losses."""

    checkpoints: tuple[Checkpoint, ...]
    facts: dict[str, Any]


class Engine(Protocol):
    """See the module's docstring. `tell` is a stage.Reporter."""

    makes: Makes
    reads_text: bool

    def prepare(self, task: Task, tell: Any) -> None: ...
    def train(self, task: Task, tell: Any, stop: Callable[[], bool]) -> Trained: ...
    def export(self, task: Task, checkpoint: Checkpoint, out: Path, name: str) -> None: ...


def get(name: str) -> Engine:
    """The engine of that name; only its own packages are imported, and those when it is used."""
    if name not in NAMES:
        raise BadRequest(f"unknown engine {name!r}; known: {', '.join(NAMES)}", param="engine")
    module = import_module(f"engines.{name.split('.')[0]}_engine")
    engine: Engine = module.ENGINE()
    return engine
