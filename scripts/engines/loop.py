"""The training loop of the torch engines: steps, validation, checkpoints, exact resume."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save as tensors_as_bytes

import safe_files
from corral.errors import BadRequest
from corral.registry.disk import sync_folder
from engines import Checkpoint, Stopped, Trained, checkpoints, objectives
from engines.batching import Step, cut, plan, rate_share, valid_every
from engines.failures import check_finite
from engines.hyperparameters import Hyperparameters
from engines.lanes import Lanes
from engines.work_folder import PARITY, parity_examples
from step_metrics import MetricsFile, openai_names
from token_rows import TokenRows

METRICS = "metrics.csv"
REFERENCE = "reference.npy"
REPORT_SECONDS = 2.0
# Of row lengths, where bf16 is multiplied by oneDNN (objectives.Batch): 5% of padding at 320 tokens a row.
BF16_MULTIPLE = 32
# Between two resume checkpoints: at least so long, so many times what the last one took, at most so long.
SAVE_SECONDS, SAVE_PAUSE, SAVE_LATEST = 5.0, 50, 60.0


@dataclass
class Progress:
    """What a resumed run must know beside weights and optimiser. `tokens` are all tokens trained on,
    padding not counted; `learned` those with a loss; `computed` those with padding."""

    step: int = 0
    tokens: int = 0
    learned: int = 0
    computed: int = 0
    seconds: float = 0.0


@dataclass
class _Sum:
    """Sums over learned tokens (or pairs)."""

    loss: float = 0.0
    right: float = 0.0
    count: int = 0

    def add(self, loss: torch.Tensor, right: torch.Tensor) -> None:
        self.loss += float(loss.detach().sum())
        self.right += float(right.sum())
        self.count += len(loss)

    def figures(self, loss: str, accuracy: str) -> dict[str, float]:
        return {loss: self.loss / max(self.count, 1), accuracy: self.right / max(self.count, 1)}


class _Part(NamedTuple):
    """What a micro-batch gives to its step: losses and rightness of its learned tokens, gradients of the weights
    (None where one took no part)."""

    loss: torch.Tensor
    right: torch.Tensor
    gradients: tuple[torch.Tensor | None, ...]


class _Interrupted(Exception):
    """Asked to stop between two micro-batches; weights are those of the last whole step."""


@dataclass
class Loop:
    """One training. `model` is PEFT's, its default adapter in training; `hyper` is resolved; `lanes` micro-batches
    are computed at once."""

    model: Any
    rows: TokenRows
    valid: TokenRows | None
    hyper: Hyperparameters
    work: Path
    device: torch.device
    bf16: bool
    tell: Any
    stop: Callable[[], bool]
    lanes: int = 1
    at: Progress = field(default_factory=Progress)
    _save_every: float = SAVE_SECONDS
    _stored: int = 0
    _left: float | None = None

    def run(self) -> Trained:
        """From the last checkpoint to the end."""
        self.dpo = self.hyper.method == "dpo"
        self.base = self.model.get_base_model()
        self.multiple = BF16_MULTIPLE if self.bf16 and self.device.type == "cpu" else 1
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=fused
        )
        steps, ends = plan(self._lengths(self.rows), self.hyper)
        self._resume()
        self.beside = Lanes(self.lanes)
        self.reference = self._reference("", self.rows) if self.dpo else None
        self.valid_reference = (
            self._reference("valid-", self.valid) if self.dpo and self.valid else None
        )
        metrics = MetricsFile(self.work / METRICS, self.at.step)
        try:
            self._steps(steps, ends, metrics)
        finally:
            metrics.close()
        return Trained(tuple(self._kept()), self._facts(len(steps)))

    def _lengths(self, rows: TokenRows) -> np.ndarray:
        """Of each unit of training: a row, or a pair, which is two rows as long as the longer one."""
        lengths: np.ndarray = objectives.filled(rows.lengths, self.multiple)
        return 2 * lengths.reshape(-1, 2).max(1) if self.dpo else lengths

    def _numbers(self, units: np.ndarray) -> np.ndarray:
        return np.stack([2 * units, 2 * units + 1], 1).reshape(-1) if self.dpo else units

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    # ---- steps ---------------------------------------------------------------------------------

    def _steps(self, steps: list[Step], ends: list[int], metrics: MetricsFile) -> None:
        total, begin, every = len(steps), self.at.step, valid_every(len(steps), self.hyper)
        started, before, saved, told = time.monotonic(), self.at.seconds, time.monotonic(), 0.0
        self.model.train()
        self._stored = begin
        self._tell_progress(total)
        for number in range(begin, total):
            rate = self.hyper.rate * rate_share(number, total, self.hyper)  # type: ignore[operator]
            try:
                figures = self._step(steps[number], rate)
            except _Interrupted:
                self._save_resume()
                raise Stopped(
                    f"stopped after step {self.at.step} of {total}; started again with the same --work, it goes on there"
                ) from None
            self.at.seconds = before + time.monotonic() - started
            end = self.at.step in ends
            if self.valid and (end or self.at.step % every == 0):
                figures |= self._validate(self.hyper.valid_rows)
            metrics.add(self.at.step, figures)
            if end:
                self._keep(figures)
            given = self.hyper.checkpoint_seconds
            if end or time.monotonic() - saved > (self._save_every if given is None else given):
                self._save_resume()
                saved = time.monotonic()
                self._stored = self.at.step
                self._tell_progress(total)
            # The longer it takes, the rarer: a day of training is a few thousand lines.
            pause = max(REPORT_SECONDS, (time.monotonic() - started) / 500)
            if self.at.step == total or time.monotonic() - told > pause:
                self._report(total, figures, self.at.step - begin, self.at.seconds - before)
                told = time.monotonic()

    def _step(self, step: Step, rate: float) -> dict[str, float]:
        """One optimiser step over its micro-batches; the step's training figures."""
        self.optimizer.param_groups[0]["lr"] = rate
        units = int(sum(len(part) for part in step))
        learned = int(sum(self.rows.learned[self._numbers(part)].sum() for part in step))
        sums, count = _Sum(), units if self.dpo else learned
        for made in self.beside.map(lambda part: self._part(part, count), step):
            if made is None:
                self.optimizer.zero_grad(set_to_none=True)
                torch.set_rng_state(self.random)
                raise _Interrupted
            sums.add(made.loss, made.right)
            # In the order of the micro-batches, whichever ended first: the sum is the same to the last bit.
            for weight, gradient in zip(self.weights, made.gradients, strict=True):
                if gradient is not None:
                    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        check_finite(sums.loss, self.at.step + 1, rate)
        length = torch.nn.utils.clip_grad_norm_(self.weights, self.hyper.clip)
        check_finite(float(length), self.at.step + 1, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._count(step, learned)
        return sums.figures("train_loss", "train_accuracy")

    def _part(self, part: np.ndarray, count: int) -> _Part | None:
        """One micro-batch of a step over `count` learned tokens (or pairs); None when asked to stop."""
        if self.stop():
            return None
        loss, right = self._losses(self.rows, part, self.reference)
        gradients = torch.autograd.grad(loss.sum() / count, self.weights, allow_unused=True)
        return _Part(loss.detach(), right, gradients)

    def _count(self, step: Step, learned: int) -> None:
        for part in step:
            lengths = self.rows.lengths[self._numbers(part)]
            self.at.tokens += int(lengths.sum())
            self.at.computed += int(objectives.filled(lengths.max(), self.multiple)) * len(lengths)
        self.at.learned += learned
        self.at.step += 1
        self.random = torch.get_rng_state()

    def _losses(
        self, rows: TokenRows, units: np.ndarray, reference: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and rightness of each learned token, or of each pair."""
        batch = objectives.batch_of(rows, self._numbers(units), self.device, self.multiple)
        with self._autocast():
            if reference is None:
                return objectives.token_losses(self.base, batch)
            policy = objectives.answer_logprobs(self.base, batch)
        held = reference[torch.from_numpy(self._numbers(units))].to(self.device)
        return objectives.preference_losses(policy, held, self.hyper.beta)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _validate(self, limit: int | None) -> dict[str, float]:
        """Loss and accuracy over the first `limit` validation rows (or pairs), or all."""
        assert self.valid is not None
        assert self.hyper.micro_tokens is not None
        lengths = self._lengths(self.valid)[:limit]
        self.model.eval()
        sums = _Sum()
        for part in cut([*range(len(lengths))], lengths, self.hyper.micro_tokens):
            loss, right = self._losses(self.valid, np.array(part), self.valid_reference)
            sums.add(loss, right)
        self.model.train()
        return sums.figures("valid_loss", "valid_mean_token_accuracy")

    # ---- DPO's reference -----------------------------------------------------------------------

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _reference(self, prefix: str, rows: TokenRows) -> torch.Tensor:
        """Log-probabilities of all answers by the model as training finds it, which for a fresh
        adapter is the base: made once, before the first step, and kept in the work folder."""
        path = self.work / f"{prefix}{REFERENCE}"
        if path.exists():
            return torch.from_numpy(np.load(path))
        if self.at.step:
            raise BadRequest(f"{path} is missing; delete {self.work} to start anew", param="work")
        self.model.eval()
        made: np.ndarray = np.zeros(len(rows), np.float32)
        for number in range(len(rows)):
            batch = objectives.batch_of(rows, np.array([number]), self.device, self.multiple)
            with self._autocast():
                made[number] = float(objectives.answer_logprobs(self.base, batch)[0])
            self.tell.progress(number + 1, len(rows), "answers", "reference log-probabilities")
        part = path.with_name(path.name + ".part.npy")
        with safe_files.room(path):
            np.save(part, made)
            part.replace(path)
        return torch.from_numpy(made)

    # ---- what is kept --------------------------------------------------------------------------

    def _adapter(self) -> dict[str, torch.Tensor]:
        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def _save_resume(self) -> None:
        state = {
            "progress": vars(self.at),
            "adapter": self._adapter(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        began = time.monotonic()
        checkpoints.save(self.work, state)
        cost = time.monotonic() - began
        self._save_every = min(SAVE_LATEST, max(SAVE_SECONDS, SAVE_PAUSE * cost))

    def _resume(self) -> None:
        self.random = torch.get_rng_state()
        state = checkpoints.load(self.work)
        if state is None:
            return
        self.at = Progress(**state["progress"])
        set_peft_model_state_dict(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        self.random = state["random"]
        self.tell.message(f"going on after step {self.at.step}")

    def _keep(self, figures: dict[str, float]) -> None:
        """Write `ckpt-step-N`, in full or not at all, and let go of the oldest ones."""
        figures = {name: round(value, 6) for name, value in figures.items()}
        if self.valid:
            full = self._validate(None)
            figures |= {f"full_{name}": round(value, 6) for name, value in full.items()}
        folder = self.work / f"ckpt-step-{self.at.step}"
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        with safe_files.room(folder):
            part.mkdir()
            self.model.peft_config["default"].save_pretrained(str(part))
        safe_files.write(part / "adapter_model.safetensors", tensors_as_bytes(self._adapter()))
        safe_files.write(part / PARITY, json.dumps(self._for_parity()).encode())
        safe_files.write(part / "metrics.json", json.dumps(figures).encode())
        part.replace(folder)
        sync_folder(self.work)
        for old in _steps_kept(self.work)[: -self.hyper.keep_checkpoints]:
            shutil.rmtree(self.work / f"ckpt-step-{old}")

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _for_parity(self) -> list[dict[str, Any]]:
        """Log-probabilities of the learned tokens of a few examples, for check_parity.py to compare."""
        self.model.eval()
        made = []
        for number in parity_examples(len(self.rows)):
            batch = objectives.batch_of(self.rows, np.array([number]), self.device, self.multiple)
            with self._autocast():
                loss = objectives.token_losses(self.base, batch).loss
            made.append({"example": number, "logprobs": [round(-x, 5) for x in loss.tolist()]})
        self.model.train()
        return made

    def _kept(self) -> list[Checkpoint]:
        return [
            Checkpoint(step, folder, json.loads((folder / "metrics.json").read_text("utf-8")))
            for step in _steps_kept(self.work)
            for folder in [self.work / f"ckpt-step-{step}"]
        ]

    # ---- what is said --------------------------------------------------------------------------

    def _report(self, total: int, figures: dict[str, float], done: int, seconds: float) -> None:
        left = (total - self.at.step) * seconds / max(done, 1)
        self._left = left
        self._tell_progress(total)
        said = f"Step {self.at.step}/{total}: training loss={figures['train_loss']:.4f}"
        if "valid_loss" in figures:
            said += f", validation loss={figures['valid_loss']:.4f}"
        speed = self.at.tokens / max(self.at.seconds, 1e-9)
        self.tell.message(
            f"{said}, {speed:,.0f} tokens/s, {left:,.0f} s left",
            data={"step": self.at.step, "total_steps": total, **openai_names(figures)}
            | {"tokens_per_second": round(speed, 1), "seconds_left": round(left, 1)},
        )

    def _tell_progress(self, total: int) -> None:
        self.tell.progress(
            self.at.step, total, "steps", "training", kept=self._stored, left=self._left
        )

    def _facts(self, total: int) -> dict[str, Any]:
        return {
            "steps": total,
            "tokens": self.at.tokens,
            "learned_tokens": self.at.learned,
            "padding_share": round(1 - self.at.tokens / max(self.at.computed, 1), 4),
            "seconds": round(self.at.seconds, 1),
            "tokens_per_second": round(self.at.tokens / max(self.at.seconds, 1e-9), 1),
            "precision": "bf16" if self.bf16 else "fp32",
        }


def _steps_kept(work: Path) -> list[int]:
    found = [p.name.removeprefix("ckpt-step-") for p in work.glob("ckpt-step-*") if p.is_dir()]
    return sorted(int(name) for name in found if name.isdigit())
