"""Fine-tune a model: training rows in, an adapter (or, with llama.cpp's engine, a model) and its manifest out.

    python scripts/finetune_lora.py --model models/corral-tiny.gguf --file train.jsonl --out build/adapter.gguf

FILE is OpenAI chat JSONL, or openai-dpo with `--method dpo`; or give `--rows` from scripts/render_data.py.
Only assistant turns are learned, end-of-turn token included. The work folder (default: OUT with .work)
has the step metrics, a checkpoint for each epoch, and what a killed run needs to go on: start it
again with the same options. docs/finetuning.md explains each option and failure. Needs the `train`
and `data` groups and a built llama.cpp.
"""

import argparse
import signal
from dataclasses import fields
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import engines
import stage
from corral.errors import BadRequest
from corral.registry import manifest
from corral.registry.disk import hash_of
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.settings import load as load_settings
from engines import Checkpoint, Engine, Task, Trained
from engines.hyperparameters import Hyperparameters
from render_data import add_options, render_file


def add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    """One option for each field of Hyperparameters."""
    known = Hyperparameters()
    given: dict[str, dict[str, Any]] = {
        "method": {"choices": ("supervised", "dpo"), "help": "supervised, or dpo over pairs"},
        "epochs": {"type": float, "help": "passes over the rows (default: 3, fewer for many rows)"},
        "batch_size": {"type": int, "help": "rows in a step (default: by --batch-tokens)"},
        "batch_tokens": {"type": int, "help": "tokens in a step"},
        "micro_tokens": {"type": int, "help": "tokens computed at once, padding included; lower it to save memory (default: 1024 on a CPU, else 4096)"},
        "rate": {"type": float, "help": "peak learning rate (default: 2e-3, from 100 M parameters 2e-4; dpo a tenth)"},
        "rate_multiplier": {"type": float, "help": "multiplies the default rate"},
        "rank": {"type": int, "help": "LoRA rank (default: 32, from 100 M parameters 16)"},
        "alpha": {"type": float, "help": "LoRA alpha (default: twice the rank)"},
        "dropout": {"type": float, "help": "LoRA dropout"},
        "beta": {"type": float, "help": "DPO's beta"},
        "seed": {"type": int, "help": "seed of adapter, order and dropout"},
        "schedule": {"choices": ("cosine", "linear", "constant"), "help": "learning rate schedule"},
        "warmup": {"type": int, "help": "warm-up steps (default: 20, at most a tenth of all)"},
        "clip": {"type": float, "help": "longest gradient"},
        "precision": {"choices": ("auto", "bf16", "fp32"), "help": "auto: bf16 where the hardware has it"},
        "gradient_checkpointing": {"choices": ("auto", "on", "off"), "help": "auto: when memory asks for it"},
        "quantised_base": {"choices": ("on", "off"), "help": "QLoRA: base in four bits, CUDA only"},
        "valid_every": {"type": int, "help": "steps between validations (default: a tenth of all)"},
        "valid_rows": {"type": int, "help": "rows of a validation between epochs; at their end, all"},
        "keep_checkpoints": {"type": int, "help": "checkpoints kept, newest first"},
        "checkpoint_seconds": {"type": float, "help": "seconds between two resume checkpoints (default: 5 to 60, by what one costs)"},
    }  # fmt: skip
    for name, option in given.items():
        default = getattr(known, name)
        said = option.pop("help") + (f" (default {default})" if default is not None else "")
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=said, **option)
    parser.add_argument(
        "--targets", default="", help="linear layers to adapt, a,b,c (default: all but the output)"
    )


def hyperparameters(args: argparse.Namespace) -> Hyperparameters:
    names = {field.name for field in fields(Hyperparameters)} - {"targets"}
    targets = tuple(name.strip() for name in args.targets.split(",") if name.strip())
    return Hyperparameters(**{name: getattr(args, name) for name in names}, targets=targets)


def task_of(args: argparse.Namespace, engine: Engine, tell: stage.Reporter) -> Task:
    """The task, its rows rendered where they are not yet."""
    work = args.work or args.out.with_suffix(".work")
    bin_dir = args.llama_bin or load_settings().llama_bin_dir
    rows, valid = args.rows or args.file, args.valid_token_rows or args.valid
    if rows is None:
        raise BadRequest("give --file (JSONL) or --rows (token rows)", param="file")
    if not engine.reads_text:
        options = {
            "format_name": args.format,
            "max_length": args.max_length,
            "too_long": args.too_long,
        }
        tokenizer = args.tokenizer or args.model
        if args.rows is None:
            rows = work / "rows"
            render_file(tokenizer, args.file, rows, bin_dir, tell, **options)
        if args.valid and not args.valid_token_rows:
            valid = work / "valid"
            render_file(tokenizer, args.valid, valid, bin_dir, tell, **options)
    hyper = hyperparameters(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    model, source = args.model, args.llama_source
    return Task(
        model, rows, work, bin_dir, source, hyper, valid, args.start, args.device, base_name(args)
    )


def base_name(args: argparse.Namespace) -> str:
    """The base's name in what is written."""
    return str(args.base_name or args.model.stem)


def name_of(args: argparse.Namespace, trained: Trained, at: Checkpoint) -> str:
    """What a checkpoint is called; the last one is the result itself."""
    name = str(args.name or args.out.stem)
    return name if at is trained.checkpoints[-1] else f"{name}:ckpt-step-{at.step}"


def train(engine: Engine, task: Task, tell: stage.Reporter) -> Trained:
    """Train; SIGTERM and SIGINT end it at the next micro-batch with a checkpoint."""
    asked = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return engine.train(task, tell, asked.is_set)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_of(args: argparse.Namespace) -> BaseOf | None:
    """The adapter that training began with, for the manifest."""
    if args.start is None:
        return None
    sha256 = hash_of(args.start) if args.start.is_file() else ""
    return BaseOf(name=args.start_name or args.start.stem, sha256=sha256)


def describe(
    args: argparse.Namespace, engine: Engine, trained: Trained, at: Checkpoint, path: Path
) -> None:
    """Write the manifest beside an exported checkpoint."""
    base = base_name(args)
    sha256 = args.base_sha256 or (hash_of(args.model) if args.model.is_file() else "")
    file = ManifestFile(
        name=path.name,
        role="adapter" if engine.makes == "adapter" else "weights",
        sha256=hash_of(path),
        bytes=path.stat().st_size,
    )
    facts = {k: v for k, v in trained.facts.items() if k != "hyperparameters"}
    made = Manifest(
        name=name_of(args, trained, at),
        kind=engine.makes,
        files=(file,),
        base=BaseOf(name=base, sha256=sha256),
        start=start_of(args),
        description=f"fine-tuned from {args.start_name or base} with the {args.engine} engine",
        settings=trained.facts.get("hyperparameters", {}) | {"engine": args.engine},
        seed=args.seed,
        metrics={"training": facts | {"step": at.step, **at.metrics}},
    )
    manifest.write(made, args.out.parent)


def export(
    args: argparse.Namespace, engine: Engine, task: Task, trained: Trained, tell: stage.Reporter
) -> list[dict[str, Any]]:
    """Write the result, and with --checkpoints those before it, as GGUF; what was written."""
    wanted = trained.checkpoints if args.checkpoints else trained.checkpoints[-1:]
    written = []
    for number, each in enumerate(wanted, 1):
        last = each is trained.checkpoints[-1]
        path = (
            args.out if last else args.out.with_name(f"{args.out.stem}.ckpt-step-{each.step}.gguf")
        )
        engine.export(task, each, path, name_of(args, trained, each))
        if args.name:
            describe(args, engine, trained, each, path)
        written.append({"step": each.step, "file": path.name, "metrics": each.metrics})
        tell.progress(number, len(wanted), "files", "exporting")
    return written


def name_adapter(work: Path, last: Path) -> None:
    """Let `WORK/adapter` be the last checkpoint, for `--start` of the next training."""
    link, fresh = work / "adapter", work / "adapter.part"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(last.name)
    fresh.replace(link)


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    engine = engines.get(args.engine)
    task = task_of(args, engine, tell)
    engine.prepare(task, tell)
    if args.start:
        tell.message(f"training begins with the weights of {args.start_name or args.start}")
    trained = train(engine, task, tell)
    if engine.makes == "adapter":
        name_adapter(task.work, trained.checkpoints[-1].folder)
    written = export(args, engine, task, trained, tell)
    tell.result(
        {
            "out": str(args.out),
            "makes": engine.makes,
            "metrics": str(task.work / "metrics.csv"),
            "adapter": str(trained.checkpoints[-1].folder),
            "checkpoints": written,
            **trained.facts,
        }
    )


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="base: GGUF, or Hugging Face folder"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="GGUF that will serve, where --model is a folder"
    )
    parser.add_argument("--file", type=Path, help="training rows, JSONL")
    parser.add_argument(
        "--rows", type=Path, help="training rows as scripts/render_data.py wrote them"
    )
    parser.add_argument("--valid", type=Path, help="validation rows, JSONL")
    parser.add_argument("--valid-token-rows", type=Path, help="the same, rendered")
    parser.add_argument("--out", type=Path, required=True, help="GGUF to write")
    parser.add_argument(
        "--work", type=Path, help="folder for checkpoints (default: OUT with .work)"
    )
    parser.add_argument("--start", type=Path, help="begin with this adapter, GGUF or PEFT folder")
    parser.add_argument("--start-name", help="its name in the manifest (default: its file's)")
    parser.add_argument(
        "--engine", choices=engines.NAMES, default="peft", help="training engine (peft)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--name", help="write a manifest under this name beside OUT")
    parser.add_argument(
        "--base-name", help="name of the base in the manifest (default: its file's)"
    )
    parser.add_argument("--base-sha256", default="", help="its checksum, where it is known")
    parser.add_argument(
        "--checkpoints", action="store_true", help="export the epochs before as well"
    )
    parser.add_argument(
        "--llama-source", type=Path, help="llama.cpp's source tree, for its converter"
    )
    add_options(parser)
    add_hyperparameters(parser)
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
