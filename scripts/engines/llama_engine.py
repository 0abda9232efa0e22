"""llama.cpp's own trainer, `llama-finetune`, for those who want no torch: every weight, on raw text.

As upstream has it at the pinned commit: F32 weights only, no LoRA, no loss mask (every token is
learned), one learning rate, weights written at the end only. So a killed run begins anew, and chats
are refused: the program would read a role marker as plain letters. It learns windows of CONTEXT
tokens, each half over the one before it, and measures the last of them after each epoch. The file it
writes has no chat template and calls CONTEXT the model's context, so only its weights are taken.
"""

import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from gguf import GGUFReader

import safe_files
from corral.datasets.tokenizer import Tokenizer
from corral.errors import InvalidData, InvalidModel, ToolError
from corral.registry.trainer_defaults import TEXT_WINDOW
from engines import Checkpoint, Stopped, Task, Trained, work_folder
from engines.failures import check_finite
from engines.hyperparameters import Hyperparameters
from engines.work_folder import PARITY
from llama_tools import LlamaTools
from render_data import good_rows
from step_metrics import MetricsFile, openai_names

PROGRAM = "llama-finetune"
FINISHED, TEXT = "finished.gguf", "train.txt"
CONTEXT = TEXT_WINDOW
STRIDE = CONTEXT // 2
# Its AdamW starts from noise at the rates that suit LoRA; this one is upstream's advice for full weights.
RATE = 1e-5
VALID_SHARE = 0.05
_LINE = re.compile(r"(train|val):\s+\[[^\]]*\] data=(\d+)/(\d+) loss=([^\s±]+)±\S+ acc=([^\s±]+)±")


def text_of(path: Path) -> str:
    """The text to learn: a .txt file as it is, or the rows of `{"text": …}` one after the other."""
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8")
    texts = []
    for line, row in good_rows(path, None):
        if row.kind != "text":
            raise InvalidData(
                f'{path}:{line}: the llama.cpp engine learns raw text; give rows of {{"text": …}} or a .txt file, '
                "or use --engine peft, which learns chats",
                param="engine",
            )
        texts.append(row.text)
    return "\n".join(texts)


def tokens_of(text: str, model: Path, llama_bin: Path) -> list[int]:
    """What the program makes of a text file: without its last line end, markers as plain letters."""
    with Tokenizer(model, llama_bin) as tokenizer:
        return tokenizer.encode(text.removesuffix("\n"), markers=False)


def windows_of(tokens: int) -> int:
    """How many windows the program cuts."""
    return max(0, tokens - CONTEXT - 1) // STRIDE


def check_length(tokens: int) -> None:
    """InvalidData unless there is a window to learn and one to measure: of less the program crashes."""
    least = CONTEXT + 1 + 2 * STRIDE
    if tokens < least:
        raise InvalidData(
            f"the text has {tokens:,} tokens; the llama.cpp engine needs at least {least:,}",
            param="training_file",
        )


def take_weights(into: Path, trained: Path) -> None:
    """Overwrite the weights of a GGUF with those of another; ToolError where they are not the same ones."""
    fresh = {tensor.name: tensor.data for tensor in GGUFReader(trained).tensors}
    there = GGUFReader(into, "r+")
    shapes = {tensor.name: tensor.data.shape for tensor in there.tensors}
    if shapes != {name: data.shape for name, data in fresh.items()}:
        raise ToolError(f"{PROGRAM} wrote other tensors than the base has; report the model")
    for tensor in there.tensors:
        tensor.data[:] = fresh[tensor.name]
    there.data.flush()


def read_progress(text: str) -> list[tuple[str, int, int, float, float]]:
    """(train or val, done, all, loss, accuracy) of every complete progress line in the output."""
    return [
        (kind, int(done), int(total), float(loss), float(right) / 100)
        for kind, done, total, loss, right in _LINE.findall(text)
    ]


class Follower:
    """Turns the program's output into progress and metrics. A step is one pass over all windows."""

    def __init__(
        self, metrics: MetricsFile, epochs: int, tell: Any, stop: Callable[[], bool]
    ) -> None:
        self._metrics, self._epochs, self._tell, self._stop = metrics, epochs, tell, stop
        self._seen, self._epoch, self._done = 0, 0, 0
        self._began = time.monotonic()
        self._figures: dict[str, float] = {}
        self.windows = {"train": 0, "val": 0}

    def __call__(self, text: str) -> None:
        """All output so far."""
        if self._stop():
            raise Stopped(f"stopped; {PROGRAM} keeps nothing before its end, so it begins anew")
        cut = max(text.rfind("\r"), text.rfind("\n")) + 1
        for kind, done, total, loss, right in read_progress(text[self._seen : cut]):
            self.windows[kind] = total
            if kind == "val":
                self._figures |= {"valid_loss": loss, "valid_mean_token_accuracy": right}
                continue
            if done <= self._done:
                self.end_epoch()
            self._done = done
            self._figures |= {"train_loss": loss, "train_accuracy": right}
            whole = self._epoch * total + done
            left = (time.monotonic() - self._began) / whole * (self._epochs * total - whole)
            self._tell.progress(whole, self._epochs * total, "windows", "training", left=left)
        self._seen = max(self._seen, cut)

    def end_epoch(self) -> dict[str, float]:
        """Write the figures of the epoch that is over, and give them."""
        figures, self._figures, self._done = self._figures, {}, 0
        if figures:
            self._epoch += 1
            self._metrics.add(self._epoch, figures)
            said = f"Step {self._epoch}/{self._epochs}: training loss={figures['train_loss']:.4f}"
            data = {"step": self._epoch, "total_steps": self._epochs, **openai_names(figures)}
            self._tell.message(said, data=data)
        return figures


class LlamaEngine:
    """See the module and engines/__init__.py."""

    makes: Literal["base"] = "base"
    reads_text = True

    def prepare(self, task: Task, tell: Any) -> None:
        LlamaTools(task.llama_bin).path(PROGRAM)
        if task.hyper.method != "supervised":
            raise InvalidData("the llama.cpp engine has no dpo; use --engine peft", param="engine")
        if task.start:
            raise InvalidData(
                "the llama.cpp engine takes no --start: it trains no adapter; use --engine peft",
                param="engine",
            )
        if not task.model.is_file():
            raise InvalidModel(f"{task.model} is no file; this engine needs a GGUF", param="model")
        reader = GGUFReader(task.model)
        if "split.count" in reader.fields:
            raise InvalidModel(
                f"{task.model} is a part of a model; join its files with llama-gguf-split --merge, or use --engine peft",
                param="model",
            )
        kinds = {tensor.tensor_type.name for tensor in reader.tensors}
        if kinds != {"F32"}:
            raise InvalidModel(
                f"{task.model} has {', '.join(sorted(kinds))} weights; {PROGRAM} trains F32 only: convert the model "
                "with --type f32, or use --engine peft",
                param="model",
            )

    def train(self, task: Task, tell: Any, stop: Callable[[], bool]) -> Trained:
        hyper = task.hyper
        epochs, rate = max(1, round(hyper.epochs or 2)), hyper.rate or RATE * hyper.rate_multiplier
        work_folder.claim(task.work, _identity(task, epochs, rate))
        if not (task.work / FINISHED).exists():
            self._run(task, epochs, rate, tell, stop)
        said = json.loads((task.work / PARITY).read_text("utf-8"))
        made = {name: said[name] for name in ("tokens", "seconds")}
        made |= {"steps": epochs, "hyperparameters": _recorded(hyper, epochs, rate)}
        return Trained((Checkpoint(epochs, task.work, said["metrics"]),), made)

    def _run(
        self, task: Task, epochs: int, rate: float, tell: Any, stop: Callable[[], bool]
    ) -> None:
        path, part = task.work / TEXT, task.work / "part.gguf"
        text = text_of(task.rows)
        check_length(len(tokens_of(text, task.model, task.llama_bin)))
        safe_files.write(path, text.encode())
        metrics = MetricsFile(task.work / "metrics.csv", 0)
        tools = LlamaTools(task.llama_bin)
        argv = tools.argv(PROGRAM, "--model", task.model, "--file", path, "--output-file", part)
        argv += ["-epochs", str(epochs), "-lr", str(rate), "-val-split", str(VALID_SHARE)]
        argv += ["-c", str(CONTEXT), "-b", str(CONTEXT), "-ub", str(CONTEXT)]
        argv += ["--seed", str(task.hyper.seed)]
        argv += ["--gpu-layers", "0" if task.device == "cpu" else "999"]
        began = time.monotonic()
        follow = Follower(metrics, epochs, tell, stop)
        try:
            tools.run(argv, follow)
            last = follow.end_epoch()
        finally:
            metrics.close()
        check_finite(last.get("train_loss", math.nan), epochs, rate)
        if not part.is_file():
            raise ToolError(f"{PROGRAM} ended well but wrote no model; is the disk full?")
        said = {"windows": follow.windows, "tokens": epochs * follow.windows["train"] * CONTEXT}
        said |= {"metrics": last, "seconds": round(time.monotonic() - began, 1)}
        safe_files.write(task.work / PARITY, json.dumps(said).encode())
        part.replace(task.work / FINISHED)

    def export(self, task: Task, checkpoint: Checkpoint, out: Path, name: str) -> None:
        part = out.with_name(out.name + ".part")
        with safe_files.room(out):
            shutil.copyfile(task.model, part)
            take_weights(part, checkpoint.folder / FINISHED)
            part.replace(out)


def _recorded(hyper: Hyperparameters, epochs: int, rate: float) -> dict[str, Any]:
    return {"epochs": epochs, "rate": rate, "seed": hyper.seed, "context": CONTEXT}


def _identity(task: Task, epochs: int, rate: float) -> dict[str, Any]:
    about = {
        "model": task.model.name,
        "rows": task.rows.name,
        "rows_bytes": task.rows.stat().st_size,
    }
    return about | _recorded(task.hyper, epochs, rate)


ENGINE = LlamaEngine
