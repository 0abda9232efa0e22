"""LoRA by mlx-lm, for Apple GPUs. MLX's CPU build for Linux runs it too, which is how it is tested.

Tokens and loss mask are the token rows, as with every engine: mlx-lm's own data reader and tokenizer
are not used, its model, LoRA layers and optimiser are. A GGUF base is written once as a Hugging Face
folder by transformers. Supervised only. A checkpoint at each epoch's end is also where a killed run
goes on: the same rows follow, in the same order.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file
from safetensors.numpy import save as tensors_as_bytes

import safe_files
from corral.errors import InvalidData, ToolError
from engines import Checkpoint, Stopped, Task, Trained, adapter_gguf, work_folder
from engines.batching import Step, plan, rate_share, valid_every
from engines.failures import check_finite
from engines.hyperparameters import Hyperparameters
from step_metrics import MetricsFile, openai_names
from token_rows import TokenRows

_PREFIX = "base_model.model."
_RESUME = "resume.safetensors"
REPORT_SECONDS = 2.0


class MlxEngine:
    """See the module and engines/__init__.py."""

    makes: Literal["adapter"] = "adapter"
    reads_text = False

    def prepare(self, task: Task, tell: Any) -> None:
        missing = [name for name in ("mlx", "mlx_lm") if not find_spec(name)]
        if missing:
            raise ToolError(
                f"the mlx engine needs {' and '.join(missing)} (pip install mlx-lm); --engine peft does the same"
            )
        if task.hyper.method != "supervised" or TokenRows(task.rows).kind != "chat":
            raise InvalidData("the mlx engine has no dpo; use --engine peft", param="engine")
        if task.start or task.hyper.quantised_base == "on":
            raise InvalidData(
                "the mlx engine takes no --start and no quantised base; use --engine peft",
                param="engine",
            )

    def train(self, task: Task, tell: Any, stop: Callable[[], bool]) -> Trained:
        folder = hf_folder(task)
        rows, valid = TokenRows(task.rows), TokenRows(task.valid) if task.valid else None
        model, parameters = load(folder)
        hyper = task.hyper.resolved(parameters, len(rows), device())
        work_folder.claim(task.work, _identity(task, hyper, rows))
        add_lora(model, hyper)
        run = Run(model, rows, valid, hyper, task.work, tell, stop)
        return run.run()

    def export(self, task: Task, checkpoint: Checkpoint, out: Path, name: str) -> None:
        source = adapter_gguf.source_tree(task.llama_source)
        adapter_gguf.to_gguf(
            checkpoint.folder, task.work / "base", out, source, name=name, base=task.base
        )


def _identity(task: Task, hyper: Hyperparameters, rows: TokenRows) -> dict[str, Any]:
    about = {"model": task.model.name, "engine": "mlx", "tokens": rows.facts["tokens"]}
    return about | hyper.recorded()


def hf_folder(task: Task) -> Path:
    """The base as a Hugging Face folder: as given, or written from the GGUF once."""
    if task.model.is_dir():
        config = json.loads((task.model / "config.json").read_text("utf-8"))
        adapter_gguf.write_config(config, config["architectures"][0], task.work / "base")
        return task.model
    folder = task.work / "base"
    if (folder / "model.safetensors").is_file():
        return folder
    # transformers reads every GGUF that the peft engine does; MLX's own reader knows few types.
    import torch

    from engines.peft_engine import load_base

    base = load_base(task.model, 1, device=torch.device("cpu"))
    adapter_gguf.write_config(base.config.to_dict(), type(base).__name__, folder)
    tied = base.config.tie_word_embeddings
    state = {
        n: t.numpy() for n, t in base.state_dict().items() if not (tied and n == "lm_head.weight")
    }
    safe_files.write(folder / "model.safetensors", tensors_as_bytes(state, {"format": "pt"}))
    return folder


def load(folder: Path) -> tuple[Any, int]:
    """The frozen model, and how many parameters it has."""
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    model.freeze()
    return model, sum(value.size for _, value in tree_flatten(model.parameters()))


def device() -> str:
    """The kind of device that MLX computes on: `gpu`, or `cpu`."""
    import mlx.core as mx

    return str(mx.default_device().type.name)


def add_lora(model: Any, hyper: Hyperparameters) -> None:
    """Adapters on every linear layer of every block, or on the targets; decided by the seed."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import linear_to_lora_layers

    assert hyper.rank is not None
    assert hyper.alpha is not None
    mx.random.seed(hyper.seed)
    config: dict[str, Any] = {"rank": hyper.rank, "scale": hyper.alpha / hyper.rank}
    config["dropout"] = hyper.dropout
    if hyper.targets:
        names = [name for name, _ in model.layers[0].named_modules()]
        config["keys"] = {name for name in names if name.split(".")[-1] in hyper.targets}
    linear_to_lora_layers(model, len(model.layers), config)


@dataclass
class Run:
    """One training."""

    model: Any
    rows: TokenRows
    valid: TokenRows | None
    hyper: Hyperparameters
    work: Path
    tell: Any
    stop: Callable[[], bool]

    def run(self) -> Trained:
        """From the last epoch's end to the end of all."""
        import mlx.core as mx
        import mlx.nn as nn
        from mlx import optimizers

        self.optimizer = optimizers.AdamW(
            learning_rate=0.0, betas=[0.9, 0.99], weight_decay=0.0, bias_correction=True
        )
        self.optimizer.init(self.model.trainable_parameters())
        self.gradient = nn.value_and_grad(self.model, loss_of)
        steps, ends = plan(self.rows.lengths, self.hyper)
        begin = self._resume()
        metrics = MetricsFile(self.work / "metrics.csv", begin)
        started, told = time.monotonic(), 0.0
        try:
            for number in range(begin, len(steps)):
                if self.stop():
                    raise Stopped("stopped; started again it goes on at the last epoch's end")
                figures = self._step(steps[number], number, len(steps))
                at = number + 1
                looks = at in ends or at % valid_every(len(steps), self.hyper) == 0
                if self.valid and looks:
                    figures |= self._validate(self.valid)
                metrics.add(at, figures)
                if at in ends:
                    self._keep(at, figures)
                if at == len(steps) or time.monotonic() - told > REPORT_SECONDS:
                    told = time.monotonic()
                    self._report(at, len(steps), figures, (told - started) / (at - begin))
        finally:
            metrics.close()
        seconds = time.monotonic() - started
        tokens = int(sum(self.rows.lengths[part].sum() for step in steps for part in step))
        facts: dict[str, Any] = {
            "steps": len(steps),
            "tokens": tokens,
            "seconds": round(seconds, 1),
        }
        facts |= {"hyperparameters": self.hyper.recorded(), "device": str(mx.default_device())}
        return Trained(tuple(self._kept()), facts)

    def _step(self, step: Step, number: int, total: int) -> dict[str, float]:
        import mlx.core as mx
        from mlx.utils import tree_map

        assert self.hyper.rate is not None
        rate = self.hyper.rate * rate_share(number, total, self.hyper)
        learned = int(sum(self.rows.learned[part].sum() for part in step))
        sums, grads = np.zeros(2), None
        for part in step:
            ids, mask = padded(self.rows, part)
            (loss, right), grad = self.gradient(self.model, mx.array(ids), mx.array(mask), learned)
            grads = grad if grads is None else tree_map(mx.add, grads, grad)
            mx.eval(grads, loss, right)
            sums += (loss.item(), right.item() / learned)
        check_finite(float(sums[0]), number + 1, rate)
        grads, length = _clipped(grads, self.hyper.clip)
        check_finite(length, number + 1, rate)
        self.optimizer.learning_rate = rate
        self.optimizer.update(self.model, grads)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        return {"train_loss": float(sums[0]), "train_accuracy": float(sums[1])}

    def _validate(self, valid: TokenRows) -> dict[str, float]:
        import mlx.core as mx

        count = min(len(valid), self.hyper.valid_rows)
        learned = int(valid.learned[:count].sum())
        sums = np.zeros(2)
        self.model.eval()
        for number in range(count):
            ids, mask = padded(valid, np.array([number]))
            loss, right = loss_of(self.model, mx.array(ids), mx.array(mask), learned)
            sums += (loss.item(), right.item() / learned)
        self.model.train()
        return {"valid_loss": float(sums[0]), "valid_mean_token_accuracy": float(sums[1])}

    def _keep(self, step: int, figures: dict[str, float]) -> None:
        """Write `ckpt-step-N`: the adapter in PEFT's shape, and what resuming needs."""
        from mlx.utils import tree_flatten

        folder = self.work / f"ckpt-step-{step}"
        part = folder.with_name(folder.name + ".part")
        for old in (part, folder):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir()
        weights = {n: np.array(v) for n, v in tree_flatten(self.model.trainable_parameters())}
        held = {f"optimizer.{n}": np.array(v) for n, v in tree_flatten(self.optimizer.state)}
        files = {
            "adapter_model.safetensors": tensors_as_bytes(as_peft(weights)),
            "adapter_config.json": json.dumps(peft_config(self.hyper, weights)).encode(),
            "metrics.json": json.dumps(figures).encode(),
            work_folder.PARITY: json.dumps(self._for_parity()).encode(),
            _RESUME: tensors_as_bytes(weights | held),
        }
        for name, data in files.items():
            safe_files.write(part / name, data)
        part.replace(folder)
        for each in self._kept()[: -self.hyper.keep_checkpoints]:
            shutil.rmtree(each.folder)

    def _for_parity(self) -> list[dict[str, Any]]:
        """Log-probabilities of the learned tokens of a few examples, for check_parity.py to compare."""
        import mlx.core as mx

        self.model.eval()
        made = []
        for number in work_folder.parity_examples(len(self.rows)):
            ids, mask = padded(self.rows, np.array([number]))
            losses = np.array(losses_of(self.model, mx.array(ids))[0])[0, mask[0, 1:]]
            made.append({"example": number, "logprobs": [round(-x, 5) for x in losses.tolist()]})
        self.model.train()
        return made

    def _resume(self) -> int:
        """Take weights and optimiser from the last checkpoint; the step it was written at."""
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        kept = self._kept()
        if not kept:
            return 0
        state = {n: mx.array(v) for n, v in load_file(kept[-1].folder / _RESUME).items()}
        held = {
            n.removeprefix("optimizer."): v for n, v in state.items() if n.startswith("optimizer.")
        }
        self.model.load_weights(
            [(n, v) for n, v in state.items() if not n.startswith("optimizer.")], strict=False
        )
        self.optimizer.state = tree_unflatten(list(held.items()))
        mx.random.seed(self.hyper.seed + kept[-1].step)
        self.tell.message(f"going on after step {kept[-1].step}")
        return kept[-1].step

    def _kept(self) -> list[Checkpoint]:
        names = [p.name.removeprefix("ckpt-step-") for p in self.work.glob("ckpt-step-*")]
        folders = [(int(n), self.work / f"ckpt-step-{n}") for n in names if n.isdigit()]
        return [
            Checkpoint(step, folder, json.loads((folder / "metrics.json").read_text("utf-8")))
            for step, folder in sorted(folders)
        ]

    def _report(self, at: int, total: int, figures: dict[str, float], pace: float) -> None:
        left = (total - at) * pace
        self.tell.progress(at, total, "steps", "training", left=left)
        self.tell.message(
            f"Step {at}/{total}: training loss={figures['train_loss']:.4f}, {left:,.0f} s left",
            data={"step": at, "total_steps": total, **openai_names(figures)}
            | {"seconds_left": round(left, 1)},
        )


def padded(rows: TokenRows, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids (int32) and learned flags of a batch, padded on the right."""
    read = [rows[int(number)] for number in numbers]
    ids: np.ndarray = np.zeros((len(read), max(len(row.ids) for row in read)), np.int32)
    mask: np.ndarray = np.zeros(ids.shape, bool)
    for at, row in enumerate(read):
        ids[at, : len(row.ids)], mask[at, : len(row.ids)] = row
    return ids, mask


def losses_of(model: Any, ids: Any) -> tuple[Any, Any]:
    """Cross-entropy of every token but the first, and whether it was the likeliest."""
    import mlx.core as mx
    import mlx.nn as nn

    logits, label = model(ids[:, :-1]), ids[:, 1:]
    return nn.losses.cross_entropy(logits, label).astype(mx.float32), logits.argmax(-1) == label


def loss_of(model: Any, ids: Any, mask: Any, learned: int) -> tuple[Any, Any]:
    """Cross-entropy over learned tokens, divided by the step's number of them; tokens right."""
    losses, right = losses_of(model, ids)
    counts = mask[:, 1:]
    return (losses * counts).sum() / learned, (right * counts).sum()


def _clipped(grads: Any, most: float) -> tuple[Any, float]:
    from mlx.optimizers import clip_grad_norm

    clipped, length = clip_grad_norm(grads, most)
    return clipped, length.item()


def as_peft(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """mlx-lm's names and shapes (`….lora_a` [in, rank]) as PEFT's (`….lora_A.weight` [rank, in])."""
    renamed = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
    return {
        f"{_PREFIX}{name.rpartition('.')[0]}.{renamed[name.rpartition('.')[2]]}": np.ascontiguousarray(
            value.T.astype(np.float32)
        )
        for name, value in weights.items()
    }


def peft_config(hyper: Hyperparameters, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """adapter_config.json as llama.cpp's converter and PEFT read it."""
    layers = sorted({name.split(".")[-2] for name in weights})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": hyper.rank,
        "lora_alpha": hyper.alpha,
        "lora_dropout": hyper.dropout,
        "target_modules": layers,
        "bias": "none",
    }


ENGINE = MlxEngine
