"""Pretrain the bundled base model, corral-tiny, from nothing on generic text-to-JSON tasks.

    python scripts/pretrain_tiny.py --llama-source llama.cpp --steps 6500 --out build/tiny
    python scripts/pretrain_tiny.py --llama-source llama.cpp --steps 2000 --start build/tiny --out build/tiny-2
    python scripts/pretrain_tiny.py --llama-source llama.cpp --steps 200 --start build/tiny-2 --out build/tiny-3 --mix signs --share 1
    python scripts/pretrain_tiny.py --llama-source llama.cpp --steps 700 --start build/tiny-3 --out build/tiny-4

Reproducible by seed and package versions; checkpoints every hundred steps and resumes by itself after a kill. `--start` goes on from
a finished run with a lower rate that falls from the beginning, so that tasks added since are learned as well; it may be a GGUF too.
`--mix signs` is for what is not learned beside others (scripts/synthetic/shelves.py).
Writes OUT/corral-tiny.gguf and OUT/log.jsonl (step, tokens, loss, seconds).
Needs the `train` and `data` groups, Debian's word lists (scripts/synthetic/lexicon.py) and a built llama.cpp
(LLAMA_CPP_LIB_PATH for the bindings).
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

import tiny_model
import tiny_tokenizer
from synthetic.tasks import MIXES
from training import Batch, loss_of, pad, save

BLOCK_EXAMPLES = (
    2048  # drawn, sorted by length and cut into batches together, so that little is padding
)
BATCH_TOKENS = 8192
MAX_LENGTH = 4096
RATE_ADAM, RATE_MUON = 3e-3, 4e-3
# Copying begins while the rate is still near its peak (about step 450); from FALL_FROM on it falls linearly to zero.
WARMUP_STEPS, FALL_FROM = 100, 500
AGAIN_SHARE = 0.4  # of the rates, for a run that goes on from another, unless `--share` says so
CHECKPOINT_STEPS = 100
CHECKPOINT = "checkpoint.pt"

Position = tuple[int, int]  # block and how many of its batches were used


def block(gguf: Path, seed: int, number: int, mix: str) -> list[Batch]:
    """Batches of block `number`: ids and weights, each [rows, longest], padded with zeros."""
    from synthetic import lexicon
    from synthetic.encoding import Encoder
    from synthetic.tasks import Tasks

    rng = Random(f"{seed}/{number}")
    tasks, encoder = Tasks(rng, lexicon.load(), mix), Encoder(gguf)
    rows = [encoder.encode(tasks.draw()) for _ in range(BLOCK_EXAMPLES)]
    rows = sorted((row for row in rows if len(row[0]) <= MAX_LENGTH), key=lambda row: len(row[0]))
    batches, start = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or len(rows[end][0]) * (end + 1 - start) > BATCH_TOKENS:
            batches.append(pad(rows[start:end]))
            start = end
    rng.shuffle(batches)
    return batches


def batches(
    gguf: Path, seed: int, number: int, taken: int, mix: str
) -> Iterator[tuple[Position, Batch]]:
    """Endless batches from the one after the first `taken` of block `number`, each with the position after it.

    One process draws the next block ahead.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        pending = pool.apply_async(block, (gguf, seed, number, mix))
        while True:
            ready = pending.get()
            pending = pool.apply_async(block, (gguf, seed, number + 1, mix))
            yield from (((number, i + 1), batch) for i, batch in enumerate(ready) if i >= taken)
            number, taken = number + 1, 0


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.AdamW(others, lr=RATE_ADAM, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        torch.optim.Muon(matrices, lr=RATE_MUON, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    ]


@dataclass(frozen=True)
class Plan:
    """How long, from where, on what and at which share of the rates (`start` None: from nothing)."""

    steps: int
    seed: int
    start: Path | None = None
    mix: str = "usual"
    share: float = AGAIN_SHARE

    def rate(self, step: int) -> float:
        """Share of the full learning rate: warm-up, constant (only from nothing), then linear to zero."""
        again = self.start is not None
        warmup = min(WARMUP_STEPS, max(1, self.steps // 10))
        fall_from = warmup if again else FALL_FROM
        left = max(0.0, (self.steps - step) / max(1, self.steps - fall_from))
        return (self.share if again else 1.0) * min(1.0, (step + 1) / warmup, left)


def train(out: Path, plan: Plan) -> Any:
    """Train to the plan's end, from the checkpoint in `out` where there is one, else from its start; returns the model."""
    start, seed, steps = plan.start, plan.seed, plan.steps
    model = tiny_model.fresh(seed)
    optims, checkpoint, step, begin = optimizers(model), out / CHECKPOINT, 0, (0, 0)
    found = checkpoint if checkpoint.exists() or start is None else start / CHECKPOINT
    if start is not None and start.is_file() and not checkpoint.exists():
        model.load_state_dict(tiny_model.weights_of(start))
    if found.exists():
        state = torch.load(found, weights_only=True)
        step, begin = state["step"] if found == checkpoint else 0, state["position"]
        model.load_state_dict(state["model"])
        for optim, saved in zip(optims, state["optimizers"], strict=True):
            optim.load_state_dict(saved)
    started, tokens, recent = time.time(), 0, list[float]()
    for position, batch in batches(out / "vocab.gguf", seed, *begin, plan.mix):
        if step >= steps:
            break
        for optim, lr in zip(optims, (RATE_ADAM, RATE_MUON), strict=True):
            optim.param_groups[0]["lr"] = lr * plan.rate(step)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        step, tokens, recent = step + 1, tokens + batch[0].size, [*recent, loss.item()]
        if step % 25 == 0:
            report(out, step, tokens, recent, started)
            recent = []
        if step % CHECKPOINT_STEPS == 0 or step == steps:
            states = [optim.state_dict() for optim in optims]
            save(
                checkpoint,
                {
                    "step": step,
                    "position": position,
                    "model": model.state_dict(),
                    "optimizers": states,
                },
            )
    return model


def can_start(out: Path, start: Path | None) -> bool:
    """Whether there is what the run begins with: without it, it would silently begin with fresh weights. A run that goes on from its own
    checkpoint needs no start any more."""
    if start is None or (out / CHECKPOINT).is_file():
        return True
    return start.is_file() or (start / CHECKPOINT).is_file()


def report(out: Path, step: int, tokens: int, recent: list[float], started: float) -> None:
    seconds = time.time() - started
    row = {
        "step": step,
        "tokens": tokens,
        "loss": round(sum(recent) / len(recent), 4),
        "seconds": round(seconds),
    }
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(f"step {step} loss {row['loss']:.4f} {tokens / seconds:.0f} tokens/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/tiny"), help="work folder (default build/tiny)"
    )
    parser.add_argument(
        "--llama-source", type=Path, required=True, help="llama.cpp source tree, for its converter"
    )
    parser.add_argument(
        "--steps", type=int, default=6500, help="optimiser steps in all (default 6500)"
    )
    parser.add_argument(
        "--start", type=Path, help="work folder of a finished run, or a GGUF, to go on from"
    )
    parser.add_argument(
        "--mix",
        choices=tuple(MIXES),
        default="usual",
        help="which tasks (default usual)",
    )
    parser.add_argument(
        "--share", type=float, default=AGAIN_SHARE,
        help=f"of the full rates, with --start (default {AGAIN_SHARE})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and data (default 1)")
    args = parser.parse_args()
    if not can_start(args.out, args.start):
        parser.error(
            f"--start {args.start} is neither a GGUF nor the work folder of a run (with {CHECKPOINT})"
        )
    folder = args.out / "hf"
    tiny_tokenizer.place(folder)
    tiny_model.write_hf(tiny_model.fresh(args.seed), folder)
    tiny_model.to_gguf(folder, args.out / "vocab.gguf", args.llama_source, vocab_only=True)
    plan = Plan(args.steps, args.seed, args.start, args.mix, args.share)
    tiny_model.write_hf(train(args.out, plan), folder)
    tiny_model.to_gguf(folder, args.out / "corral-tiny.gguf", args.llama_source)


if __name__ == "__main__":
    main()
