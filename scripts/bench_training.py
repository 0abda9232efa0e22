"""Training throughput against TRL's SFTTrainer: same model, rows, device, rows per step and steps.

    python scripts/bench_training.py --model models/corral-tiny.gguf --rows build/rows --valid build/valid-rows \\
      --trl-python build/trl/bin/python --pairs 3

Runs both in turn, each in a process of its own, and prints one JSON object: for each run trained and all
tokens per second of training (loading not counted), its processor seconds (fairer than the clock where
other work runs beside), the final loss on the validation rows (float32,
measured by the same code for both), and the process's peak memory; then the medians and their ratios,
of losses the means and the ratio of means.
TRL: float32, no gradient checkpointing, loss on assistant tokens only, its own defaults else. Both:
LoRA of the same rank on the same layers, AdamW with the same betas, rate and schedule. Each pair has a
seed of its own. The final loss differs by a tenth from seed to seed, so a pair shares the first adapter
and the rows of each step, drawn at random; `--own-order` leaves TRL's order and adapter to TRL. TRL is no
dependency of Corral: the peft engine needs nothing of it, and it would add a trainer, a data set library and pandas. So it lives in an
environment of its own (`pip install trl protobuf` beside the train group), named by --trl-python.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import stage
from corral.errors import BadRequest, ToolError
from engines.hyperparameters import Hyperparameters

KINDS = ("corral", "trl")
BETAS = (0.9, 0.99)
KEPT = ("seconds", "cpu_seconds", "trained_tokens_per_second", "tokens_per_second", "peak_mib")


def peak_mib() -> float:
    """The most memory this process had, in MiB (Linux counts KiB, macOS bytes)."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def valid_loss(base: Any, folder: Path) -> float:
    """Mean loss of learned tokens, float32, by one code for both."""
    import numpy as np
    import torch

    from engines import objectives
    from token_rows import TokenRows

    rows, total, count = TokenRows(folder), 0.0, 0
    # nn.Module's own float: transformers refuses it for weights that came from a GGUF.
    torch.nn.Module.float(base.eval())
    base.set_attn_implementation("sdpa")
    for module in base.modules():
        module._forward_hooks.clear()  # the bf16 ones
    with torch.no_grad():
        for number in range(len(rows)):
            batch = objectives.batch_of(rows, np.array([number]), torch.device("cpu"))
            loss = objectives.token_losses(base, batch).loss
            total, count = total + float(loss.sum()), count + len(loss)
    return total / count


def hyperparameters(args: argparse.Namespace) -> Hyperparameters:
    """Corral's."""
    return Hyperparameters(
        epochs=args.epochs, batch_size=args.batch_size, rate=args.rate, rank=args.rank,
        schedule="linear", warmup=0, precision=args.precision, seed=args.seed,
        micro_tokens=args.micro_tokens, checkpoint_seconds=1e9,
    )  # fmt: skip


def train_corral(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One training by the peft engine."""
    import torch

    from engines import Task, memory, peft_engine
    from engines.lanes import lanes_for
    from engines.loop import METRICS, Loop
    from step_metrics import curve
    from token_rows import TokenRows

    rows = TokenRows(args.rows)
    given = hyperparameters(args)
    device = torch.device("cpu")
    engine = peft_engine.PeftEngine()
    task = Task(args.model, args.rows, work, Path(), None, given)
    base = engine.load(task, int(rows.lengths.max()), device)
    hyper = given.resolved(memory.shape_of(base).parameters, len(rows), device.type)
    bf16 = given.precision == "bf16" or (
        given.precision == "auto" and peft_engine.pays_bf16(device)
    )
    if bf16:
        peft_engine.halve(base)
    model = engine.adapt(base, hyper)
    lanes = lanes_for(memory.shape_of(base).parameters, device, hyper.dropout)
    tell = stage.Reporter(None)
    loop = Loop(model, rows, None, hyper, work, device, bf16, tell, lambda: False, lanes)
    begin, cpu = time.monotonic(), time.process_time()
    facts = loop.run().facts
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "steps": facts["steps"],
        "padding": facts["padding_share"],
        "train_losses": [loss for _, loss in curve(work / METRICS, "train_loss")],
    } | _ended(args, model.get_base_model(), seconds, facts["tokens"], facts["learned_tokens"])


def train_trl(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One training by TRL, on the very same ids and mask."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from token_rows import TokenRows

    rows, named = TokenRows(args.rows), {"gguf_file": args.model.name}
    base = AutoModelForCausalLM.from_pretrained(
        str(args.model.parent), dtype=torch.float32, **named
    )
    # Float32 all through, but transformers still counts what came from a GGUF as quantised; its Trainer refuses that.
    base.is_quantized, base.hf_quantizer = False, None
    del base.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(str(args.model.parent), **named)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    config = SFTConfig(
        output_dir=str(work), per_device_train_batch_size=args.batch_size,
        num_train_epochs=args.epochs if args.own_order else 1,
        train_sampling_strategy="random" if args.own_order else "sequential",
        learning_rate=args.rate, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0,
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], bf16=False, gradient_checkpointing=False,
        max_length=int(rows.lengths.max()), packing=False, report_to=[], save_strategy="no", seed=args.seed,
        logging_steps=1, use_cpu=True, dataloader_num_workers=0, disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(
        r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    torch.manual_seed(args.seed)
    trainer = SFTTrainer(
        model=get_peft_model(base, lora),
        args=config,
        train_dataset=dataset(args, rows),
        processing_class=tokenizer,
    )
    begin, cpu = time.monotonic(), time.process_time()
    done = trainer.train()
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    tokens, learned = (round(args.epochs * int(x.sum())) for x in (rows.lengths, rows.learned))
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    found = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "steps": done.global_step,
        "train_losses": losses,
    }
    return found | _ended(args, trainer.model.get_base_model(), seconds, tokens, learned)


def dataset(args: argparse.Namespace, rows: Any) -> Any:
    """The rows for TRL; unless it has its own order, those of all Corral's steps one after the other."""
    from datasets import Dataset

    from engines.batching import plan

    order = [*range(len(rows))]
    if not args.own_order:
        steps, _ = plan(rows.lengths, hyperparameters(args).resolved(1, len(rows), "cpu"))
        # A short step at an epoch's end would shift all that follow.
        if args.epochs > 1 and len(rows) % args.batch_size:
            raise BadRequest("--epochs above 1 needs --own-order, or rows that fill every step")
        order = [number for step in steps for number in sorted(int(n) for p in step for n in p)]
    read = [rows[number] for number in order]
    return Dataset.from_dict(
        {
            "input_ids": [row.ids.tolist() for row in read],
            "assistant_masks": [row.learned.astype(int).tolist() for row in read],
        }
    )


def _ended(
    args: argparse.Namespace, base: Any, seconds: float, tokens: int, learned: int
) -> dict[str, Any]:
    peak = peak_mib()
    return {
        "tokens": tokens,
        "learned_tokens": learned,
        "trained_tokens_per_second": learned / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_mib": peak,
        "valid_loss": valid_loss(base, args.valid),
    }


def one_run(kind: str, seed: int, args: argparse.Namespace, tell: stage.Reporter) -> dict[str, Any]:
    """One training in a process of its own."""
    python = str(args.trl_python) if kind == "trl" else sys.executable
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as folder:
        out = Path(folder) / "result.json"
        argv = [python, __file__, *sys.argv[1:], "--seed", str(seed)]
        argv += ["--child", kind, "--child-out", str(out)]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode or not out.is_file():
            raise ToolError(f"the {kind} run failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(out.read_text())
    tell.message(
        f"{kind}: {found['seconds']:.1f} s, {found['tokens_per_second']:,.0f} tokens/s, "
        f"loss {found['valid_loss']:.4f}, {found['peak_mib']:,.0f} MiB"
    )
    return found


def child(args: argparse.Namespace) -> None:
    train = train_corral if args.child == "corral" else train_trl
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as folder:
        found = train(args, Path(folder))
    args.child_out.write_text(json.dumps(found))


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    if args.child:
        child(args)
        return
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for pair in range(args.pairs):
        # Each goes first in half of the pairs, so that neither always finds the warmer machine.
        for kind in KINDS if pair % 2 == 0 else KINDS[::-1]:
            runs[kind].append(one_run(kind, args.seed + pair, args, tell))
    middle = {k: {name: median(run[name] for run in runs[k]) for name in KEPT} for k in KINDS}
    for kind in KINDS:
        middle[kind]["mean_valid_loss"] = mean(run["valid_loss"] for run in runs[kind])
    ours, theirs = middle["corral"], middle["trl"]
    tell.result(
        {
            "runs": runs,
            "medians": middle,
            "speed_ratio": ours["trained_tokens_per_second"] / theirs["trained_tokens_per_second"],
            "cpu_ratio": theirs["cpu_seconds"] / ours["cpu_seconds"],
            "loss_ratio": ours["mean_valid_loss"] / theirs["mean_valid_loss"],
            "memory_ratio": ours["peak_mib"] / theirs["peak_mib"],
        }
    )


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="base, GGUF")
    parser.add_argument("--rows", type=Path, required=True, help="token rows to train on")
    parser.add_argument("--valid", type=Path, required=True, help="token rows for the final loss")
    parser.add_argument(
        "--trl-python", type=Path, required=True, help="python of TRL's environment"
    )
    parser.add_argument("--pairs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=8, help="rows in a step (default 8)")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--micro-tokens", type=int, help="Corral's (default: its own)")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--seed", type=int, default=1, help="of the first pair; +1 for each next")
    parser.add_argument("--own-order", action="store_true", help="TRL draws its rows and adapter")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--child-out", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
