"""The default engine: LoRA by torch, transformers and PEFT. Hu et al. 2021, arXiv:2106.09685.

Base weights come from a GGUF (transformers reads it) or a Hugging Face folder. In bf16 the frozen
matrices are kept in bf16 and the adapter, the norms and the residual stream in float32. QLoRA needs
CUDA, bitsandbytes and a Hugging Face folder.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

import safe_files
from corral.errors import BadRequest, InvalidData, InvalidModel
from corral.registry.trainer_defaults import multiplies_bf16
from engines import Checkpoint, Task, Trained, adapter_gguf, fast_lora, memory, start, work_folder
from engines.attention import BF16_ATTENTION
from engines.failures import explained
from engines.hyperparameters import Hyperparameters
from engines.lanes import lanes_for
from engines.loop import Loop
from token_rows import TokenRows
from training import ATTENTION

# Attention without a mask of its own: the plain products of training.py are right for these.
_PLAIN_ATTENTION = {"llama", "qwen2", "qwen3", "mistral", "smollm3", "olmo2", "granite"}
_PLAIN_LENGTH = 1536  # measured up to here (docs/log.md); its memory grows with the square


def device_of(wanted: str) -> torch.device:
    """The device of that name; `auto`: CUDA, else MPS, else the CPU."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(wanted, False):
        names = ", ".join(name for name, present in there.items() if present)
        raise BadRequest(f"device {wanted!r} is not here; there are: {names}", param="device")
    return torch.device(wanted)


def pays_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32: where the hardware multiplies it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    return multiplies_bf16()


def load_base(model: Path, longest: int, *, device: torch.device, four_bit: bool = False) -> Any:
    """The frozen base in float32 (or four bits). InvalidModel when transformers cannot read it."""
    from_file = {"gguf_file": model.name} if model.is_file() else {}
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, **from_file}
    if four_bit:
        options |= {"quantization_config": _four_bits(), "device_map": {"": device}}
    transformers_logging.disable_progress_bar()
    try:
        base = AutoModelForCausalLM.from_pretrained(
            str(model.parent if from_file else model), attn_implementation="sdpa", **options
        )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise InvalidModel(
            f"transformers cannot read {model}: {str(error).splitlines()[0]}; give the model's Hugging Face "
            "folder instead",
            param="model",
        ) from error
    if device.type == "cpu" and longest <= _PLAIN_LENGTH and _plain(base.config):
        base.set_attn_implementation(ATTENTION)
    return base.requires_grad_(False)


def _plain(config: Any) -> bool:
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in _PLAIN_ATTENTION and not slides


def _four_bits() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def halve(base: Any) -> None:
    """Keep the frozen matrices in bf16, and hand on what a norm makes in bf16: the numbers that autocast
    gives, but it would cast each matrix in every product and the same input for each matrix it meets."""
    head = base.get_output_embeddings()
    for module in base.modules():
        if type(module) is nn.Linear and module is not head:
            module.to(torch.bfloat16)
        elif type(module).__name__.endswith("RMSNorm"):
            module.register_forward_hook(_in_bf16)
    if base.config._attn_implementation == ATTENTION:
        base.set_attn_implementation(BF16_ATTENTION)


def _in_bf16(_module: nn.Module, _inputs: Any, made: torch.Tensor) -> torch.Tensor:
    return made.to(torch.bfloat16)


def lora_over(base: Any, hyper: Hyperparameters) -> Any:
    """PEFT's model: a fresh adapter, decided by the seed, in float32."""
    torch.manual_seed(hyper.seed)
    _check_targets(base, hyper.targets)
    config = LoraConfig(
        r=hyper.rank or 16,
        lora_alpha=hyper.alpha or 32,
        lora_dropout=hyper.dropout,
        target_modules=list(hyper.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def _check_targets(base: Any, targets: tuple[str, ...]) -> None:
    """PEFT itself is content when one of them is there."""
    linear = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    missing = [each for each in targets if not any(f".{n}".endswith(f".{each}") for n in linear)]
    if missing:
        kinds = sorted({name.split(".")[-1] for name in linear})
        raise BadRequest(
            f"targets {', '.join(missing)} are not in this model; its linear layers: {', '.join(kinds)}",
            param="targets",
        )


def _can_quantise(task: Task, device: torch.device) -> bool:
    installed = find_spec("bitsandbytes") is not None
    return installed and device.type == "cuda" and not task.model.is_file()


class PeftEngine:
    """See the module and engines/__init__.py."""

    makes: Literal["adapter"] = "adapter"
    reads_text = False

    def prepare(self, task: Task, tell: Any) -> None:
        device = device_of(task.device)
        rows = TokenRows(task.rows)
        if task.start:
            start.shaped(task.hyper, task.start)
        wanted = "preference" if task.hyper.method == "dpo" else "chat"
        for each in (rows, *([TokenRows(task.valid)] if task.valid else [])):
            if each.kind != wanted:
                raise InvalidData(
                    f"method {task.hyper.method} trains on {wanted} rows; these are {each.kind} rows",
                    param="method",
                )
        if task.hyper.quantised_base == "on" and not _can_quantise(task, device):
            raise BadRequest(
                "quantised_base needs CUDA, the bitsandbytes package and the base as a Hugging Face folder; "
                "set it off",
                param="quantised_base",
            )
        if not task.model.exists():
            raise InvalidModel(
                f"{task.model} does not exist; give a GGUF file or folder", param="model"
            )

    def train(self, task: Task, tell: Any, stop: Callable[[], bool]) -> Trained:
        device, rows = device_of(task.device), TokenRows(task.rows)
        with explained(str(device)):
            base = self.load(task, int(rows.lengths.max()), device)
            shape = memory.shape_of(base)
            units = len(rows) // (2 if task.hyper.method == "dpo" else 1)
            hyper = start.shaped(task.hyper, task.start) if task.start else task.hyper
            hyper = hyper.resolved(shape.parameters, units, device.type)
            work_folder.claim(task.work, identity(task, hyper, rows))
            self._write_config(base, task.work)
            begin = start.load(task, base, hyper.targets) if task.start else None
            hyper = replace(hyper, targets=begin.targets) if begin else hyper
            four_bit = hyper.quantised_base == "on"
            bf16 = hyper.precision == "bf16" or (hyper.precision == "auto" and pays_bf16(device))
            if bf16 and not four_bit:
                halve(base)
            model = self.adapt(base, hyper).to(device)
            if begin:
                begin.load_into(model)
            assert hyper.micro_tokens is not None
            longest = int(rows.lengths.max())
            lanes = lanes_for(shape.parameters, device, hyper.dropout)
            step = memory.Step(max(hyper.micro_tokens, longest), longest, bf16, device, lanes)
            self._save_memory(model, shape, hyper, step, tell)
            valid = TokenRows(task.valid) if task.valid else None
            loop = Loop(model, rows, valid, hyper, task.work, device, bf16, tell, stop, lanes)
            trained = loop.run()
        facts = trained.facts | {"hyperparameters": hyper.recorded(), "device": str(device)}
        return Trained(trained.checkpoints, facts)

    def load(self, task: Task, longest: int, device: torch.device) -> Any:
        """The frozen base; another torch engine has its own way."""
        four_bit = task.hyper.quantised_base == "on"
        return load_base(task.model, longest, device=device, four_bit=four_bit)

    def adapt(self, base: Any, hyper: Hyperparameters) -> Any:
        """The base with a fresh adapter."""
        model = lora_over(base, hyper)
        fast_lora.install(model)
        return model

    def _write_config(self, base: Any, work: Path) -> None:
        name = type(base).__name__
        with safe_files.room(work):
            adapter_gguf.write_config(base.config.to_dict(), name, work / "base")

    def _save_memory(
        self, model: Any, shape: memory.Shape, hyper: Hyperparameters, step: memory.Step, tell: Any
    ) -> None:
        """Turn gradient checkpointing on where it was asked for or memory asks for it."""
        asked = hyper.gradient_checkpointing
        if asked == "off":
            return
        if asked == "on" or memory.wants_checkpointing(shape, step):
            model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
            if asked == "auto":
                tell.message(
                    f"gradient checkpointing is on: a step of {step.tokens:,} tokens would need about "
                    f"{memory.for_step(shape, step) / 1e9:.1f} GB and {memory.free(step.device) / 1e9:.1f} GB "
                    "are free; it costs about a third more time"
                )

    def export(self, task: Task, checkpoint: Checkpoint, out: Path, name: str) -> None:
        source = adapter_gguf.source_tree(task.llama_source)
        adapter_gguf.to_gguf(
            checkpoint.folder, task.work / "base", out, source, name=name, base=task.base
        )


def identity(task: Task, hyper: Hyperparameters, rows: TokenRows) -> dict[str, Any]:
    """What a work folder is good for: another model, other rows or settings need another one."""
    changing_nothing = {"checkpoint_seconds", "keep_checkpoints"}
    decides = {k: v for k, v in hyper.recorded().items() if k not in changing_nothing}
    weights = task.model.stat().st_size if task.model.is_file() else 0
    return {
        "model": task.model.name,
        "model_bytes": weights,
        "rows": {name: rows.facts.get(name) for name in ("source", "examples", "tokens", "kind")},
        "start": str(task.start) if task.start else None,
        **decides,
    }


ENGINE = PeftEngine
