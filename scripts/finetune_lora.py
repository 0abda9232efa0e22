"""Fine-tune a LoRA adapter over a GGUF model and write it as GGUF, ready for llama-server.

    python scripts/finetune_lora.py --model models/corral-tiny.gguf --file train.jsonl --out adapter.gguf --llama-source llama.cpp

FILE is OpenAI chat JSONL; only assistant turns are learned, end-of-turn token included. Text is rendered by the chat
template and tokenised by the tokenizer inside the GGUF, by llama.cpp. Weights are read from the GGUF by transformers. Checkpoints in
WORK (default: OUT with .work) and resumes by itself. Needs the `train` and `data` groups and a built llama.cpp
(LLAMA_CPP_LIB_PATH for the bindings). Method: LoRA, Hu et al. 2021, arXiv:2106.09685, through PEFT.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from synthetic.encoding import Encoder
from synthetic.tasks import Example
from training import ATTENTION, Batch, loss_of, pad, save

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CHECKPOINT_SECONDS = 60
REPORT_STEPS = 20


@dataclass(frozen=True)
class Settings:
    """What decides the result; written beside it."""

    rank: int
    epochs: float
    rate: float
    batch_tokens: int
    seed: int


def read_rows(path: Path, encoder: Encoder, context: int) -> list[Batch]:
    """Encoded rows; SystemExit names the first line that is not a conversation or is longer than the context."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            example = Example(row["messages"], row.get("tools"))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SystemExit(
                f'{path}:{number}: not an OpenAI chat row ({error!r}); expected {{"messages": [...]}}'
            ) from None
        ids, mask = encoder.encode(example)
        if len(ids) > context:
            raise SystemExit(
                f"{path}:{number}: {len(ids)} tokens, more than the model's context of {context}; shorten or drop the row"
            )
        rows.append((ids, mask))
    if not rows:
        raise SystemExit(f"{path}: no rows")
    return rows


def epoch_batches(rows: list[Batch], settings: Settings, epoch: int) -> list[Batch]:
    """One pass in random order; rows of like length share a batch, so that little is padding."""
    rng = Random(f"{settings.seed}/{epoch}")
    order = sorted(rng.sample(range(len(rows)), len(rows)), key=lambda i: len(rows[i][0]) // 16)
    batches, held = [], list[Batch]()
    for i in order:
        if (
            held
            and max(len(rows[i][0]), len(held[-1][0])) * (len(held) + 1) > settings.batch_tokens
        ):
            batches.append(pad(held))
            held = []
        held.append(rows[i])
    batches.append(pad(held))
    rng.shuffle(batches)
    return batches


def load_base(model: Path) -> Any:
    """The GGUF's weights as a float32 transformers model."""
    return AutoModelForCausalLM.from_pretrained(
        str(model.parent), gguf_file=model.name, dtype=torch.float32, attn_implementation=ATTENTION
    )


def train(
    base: Any, rows: list[Batch], settings: Settings, work: Path, start: Path | None = None
) -> Any:
    """Train, going on from the checkpoint in `work` where there is one; returns the PEFT model.

    `start` is the PEFT folder of an adapter to begin with instead of a fresh one.
    """
    torch.manual_seed(settings.seed)
    config = LoraConfig(
        r=settings.rank, lora_alpha=2 * settings.rank, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config)
    if start is not None:
        set_peft_model_state_dict(model, load_file(start / "adapter_model.safetensors"))
    plan = [
        batch
        for epoch in range(math.ceil(settings.epochs))
        for batch in epoch_batches(rows, settings, epoch)
    ]
    plan = plan[: round(len(plan) * settings.epochs / math.ceil(settings.epochs))]
    weights = [p for p in model.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(weights, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.0)
    step, checkpoint = 0, work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        step = state["step"]
        set_peft_model_state_dict(model, state["adapter"])
        optim.load_state_dict(state["optimizer"])
    started, saved, losses = time.time(), time.time(), list[float]()
    for batch in plan[step:]:
        share = min(1.0, (step + 1) / 20) * max(
            0.02, (1 + math.cos(math.pi * step / len(plan))) / 2
        )
        optim.param_groups[0]["lr"] = settings.rate * share
        loss = loss_of(model.get_base_model(), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        step, losses = step + 1, [*losses, loss.item()]
        if step % REPORT_STEPS == 0 or step == len(plan):
            print(
                f"step {step}/{len(plan)} loss {np.mean(losses):.4f} {time.time() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            losses = []
        if time.time() - saved > CHECKPOINT_SECONDS:
            state = {
                "step": step,
                "adapter": get_peft_model_state_dict(model),
                "optimizer": optim.state_dict(),
            }
            save(checkpoint, state)
            saved = time.time()
    return model


def export(model: Any, work: Path, out: Path, llama_source: Path) -> None:
    """Save the adapter as PEFT does and convert it with llama.cpp's own converter."""
    base, adapter = work / "base", work / "adapter"
    model.save_pretrained(adapter)
    model.get_base_model().config.save_pretrained(base)
    # transformers notes that the weights came from a GGUF; the converter would take that for a quantisation.
    config = json.loads((base / "config.json").read_text())
    config = {k: v for k, v in config.items() if k != "quantization_config"}
    (base / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    command = [
        sys.executable,
        str(llama_source / "convert_lora_to_gguf.py"),
        str(adapter),
        "--base",
        str(base),
    ]
    done = subprocess.run(
        [*command, "--outfile", str(out), "--outtype", "f16"], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"convert_lora_to_gguf.py failed:\n{done.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="base model, GGUF")
    parser.add_argument("--file", type=Path, required=True, help="training rows, OpenAI chat JSONL")
    parser.add_argument("--out", type=Path, required=True, help="adapter to write, GGUF")
    parser.add_argument("--start", type=Path, help="go on from this adapter (PEFT folder)")
    parser.add_argument(
        "--work", type=Path, help="folder for checkpoints (default: OUT with .work)"
    )
    parser.add_argument(
        "--llama-source", type=Path, required=True, help="llama.cpp source tree, for its converter"
    )
    parser.add_argument("--rank", type=int, default=32, help="LoRA rank (default 32)")
    parser.add_argument(
        "--epochs", type=float, default=3.0, help="passes over the rows (default 3)"
    )
    parser.add_argument(
        "--rate", type=float, default=2e-3, help="peak learning rate (default 2e-3)"
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=4096,
        help="tokens in a batch, padding included (default 4096)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of adapter and order (default 1)")
    args = parser.parse_args()
    settings = Settings(args.rank, args.epochs, args.rate, args.batch_tokens, args.seed)
    work = args.work or args.out.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    base = load_base(args.model)
    rows = read_rows(args.file, Encoder(args.model), base.config.max_position_embeddings)
    export(train(base, rows, settings, work, args.start), work, args.out, args.llama_source)


if __name__ == "__main__":
    main()
