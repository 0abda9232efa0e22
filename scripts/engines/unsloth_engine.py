"""LoRA with Unsloth's kernels, on CUDA, where the `unsloth` package is installed.

Unsloth loads the model and makes the adapter; rows, loop, loss, checkpoints and export are those of
the peft engine, so tokens and results mean the same. Needs the base as a Hugging Face folder.
"""

from importlib.util import find_spec
from typing import Any

import torch

from corral.errors import BadRequest, ToolError
from engines import Task
from engines.hyperparameters import Hyperparameters
from engines.peft_engine import PeftEngine

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class UnslothEngine(PeftEngine):
    """See the module and engines/__init__.py."""

    def prepare(self, task: Task, tell: Any) -> None:
        if not torch.cuda.is_available() or not find_spec("unsloth"):
            raise ToolError(
                "the unsloth engine needs an NVIDIA GPU and the unsloth package (pip install unsloth); "
                "--engine peft does the same on any machine"
            )
        if task.model.is_file():
            raise BadRequest(
                "unsloth reads no GGUF; give --model the Hugging Face folder of the base and --tokenizer the GGUF",
                param="model",
            )
        super().prepare(task, tell)

    def load(self, task: Task, longest: int, device: torch.device) -> Any:
        from unsloth import FastLanguageModel

        model, _ = FastLanguageModel.from_pretrained(
            str(task.model),
            max_seq_length=longest,
            load_in_4bit=task.hyper.quantised_base == "on",
            dtype=torch.bfloat16,
            local_files_only=True,
        )
        return model

    def adapt(self, base: Any, hyper: Hyperparameters) -> Any:
        from unsloth import FastLanguageModel

        return FastLanguageModel.get_peft_model(
            base,
            r=hyper.rank,
            lora_alpha=hyper.alpha,
            lora_dropout=hyper.dropout,
            target_modules=list(hyper.targets) or _TARGETS,
            random_state=hyper.seed,
            use_gradient_checkpointing=False,
        )


ENGINE = UnslothEngine
