"""Ask models every row of a held-out file and compare their answers with the file's, and with each other.

    python scripts/evaluate.py --url http://127.0.0.1:8000/v1 --model corral-tiny-folio --file tests/data/folio_heldout.jsonl
    python scripts/evaluate.py --variant base=base.gguf --variant tuned=base.gguf+adapter.gguf --file held_out.jsonl --html out.html

FILE is OpenAI chat JSONL; the last assistant message, text or tool calls, is the expected answer. The
models are names at `--url` (`--model`, `--against`) or GGUF files (`--variant`, each in a private
llama-server); the first is what the others are compared with. Prints one JSON object: for one
model its figures, for more `models` and `gains`. `exact` is the share equal to the expected value after
parsing (whole records right). docs/finetuning.md says what each figure means. Greedy. `--wrong OUT`
writes the rows that the last model got wrong. Exit code 3 when it misses `--min-exact`.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safe_files
import stage
from corral.errors import BadRequest, GateError
from corral.registry import manifest
from corral.settings import load as load_settings
from evaluation.asking import Asked
from evaluation.page import page
from evaluation.rows import read_rows
from evaluation.summary import Judged, figures, gain, table
from evaluation.variants import Variant, judged, losses, parse
from llama_tools import LlamaTools
from step_metrics import curve

CURVES = ("train_loss", "valid_loss")


def variants_of(args: argparse.Namespace) -> list[Variant]:
    """The models in order; the first is what the others are compared with."""
    found = [Variant(name, name=name) for name in (args.against, args.model) if name]
    found += [parse(text) for text in args.variant]
    labels = [each.label for each in found]
    if not found or len(set(labels)) < len(labels):
        raise BadRequest(
            f"give --model NAME, or --variant LABEL=… once for each model with a label of its own; found {labels}",
            param="model",
        )
    return found


def measure(args: argparse.Namespace, tell: stage.Reporter) -> list[Judged]:
    """Every variant's outcomes and, with --loss, its loss."""
    rows, found = read_rows(args.file, args.rows), variants_of(args)
    tools = LlamaTools(args.llama_bin or load_settings().llama_bin_dir)
    key = args.api_key_file.read_text().strip() if args.api_key_file else args.api_key
    asked = Asked(args.url, "", key, args.max_tokens, args.concurrency)
    every = [judged(each, rows, asked, tools, tell) for each in found]
    loss = losses(found, args.file, args.rows, tools, tell) if args.loss else {}
    return [replace(each, loss=loss.get(each.label)) for each in every]


def report(every: list[Judged]) -> dict[str, Any]:
    """What is printed: one model's figures, or all with their gains over the first."""
    if len(every) == 1:
        return figures(every[0])
    gains = [gain(every[0], each) for each in every[1:]]
    gains += [gain(every[1], each) for each in every[2:]]
    return {"rows": len(every[0].outcomes), "models": [figures(e) for e in every], "gains": gains}


def write_outputs(args: argparse.Namespace, every: list[Judged], found: dict[str, Any]) -> None:
    """The files that were asked for."""
    models, gains = found.get("models", [found]), found.get("gains", [])
    if args.wrong:
        wrong = [outcome for outcome in every[-1].outcomes if not outcome.exact]
        lines = "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in wrong)
        safe_files.write(args.wrong, lines.encode())
    if args.html:
        lines_of = {n: curve(args.metrics, n) for n in CURVES} if args.metrics else {}
        text = page(f"{every[-1].label} on {args.file.name}", every, models, gains, lines_of)
        safe_files.write(args.html, text.encode())
    if args.out:
        safe_files.write(args.out, json.dumps(found, indent=1).encode())
    if args.manifest:
        there = manifest.read(args.manifest)
        added = there.model_copy(update={"metrics": there.metrics | {"evaluation": found}})
        manifest.write(added, args.manifest.parent)


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    every = measure(args, tell)
    found = report(every)
    write_outputs(args, every, found)
    if len(every) > 1 and not args.no_table:
        tell.message(table(found["models"], found["gains"]))
    tell.result(found)
    exact = figures(every[-1])["exact"]
    if args.min_exact is not None and exact < args.min_exact:
        raise GateError(
            f"{every[-1].label}: {exact:.1%} right, --min-exact asks for {args.min_exact:.1%}"
        )


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8000/v1",
        help="base URL (default http://127.0.0.1:8000/v1)",
    )
    parser.add_argument("--api-key", default="local", help="API key, where the server asks for one")
    parser.add_argument("--api-key-file", type=Path, help="a file with it, not seen in `ps`")
    parser.add_argument("--model", help="name of the served model")
    parser.add_argument("--against", help="name of a served model to compare it with")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="LABEL=MODEL",
        help="a model: LABEL=base.gguf, LABEL=base.gguf+adapter.gguf, LABEL=served-name",
    )
    parser.add_argument(
        "--file", type=Path, required=True, help="OpenAI chat JSONL with the expected answers"
    )
    parser.add_argument("--rows", type=int, help="only the first N rows")
    parser.add_argument(
        "--max-tokens", type=int, default=1500, help="longest answer (default 1500)"
    )
    parser.add_argument("--concurrency", type=int, default=4, help="requests at once (default 4)")
    parser.add_argument(
        "--loss", action="store_true", help="loss and perplexity of the GGUF variants as well"
    )
    parser.add_argument(
        "--no-table", action="store_true", help="do not tell the figures as a table"
    )
    parser.add_argument("--wrong", type=Path, help="write the rows that differ here, as JSONL")
    parser.add_argument("--out", type=Path, help="write the printed JSON here as well")
    parser.add_argument("--html", type=Path, help="write a page to look at")
    parser.add_argument(
        "--metrics", type=Path, help="metrics.csv of the training, for the page's loss curve"
    )
    parser.add_argument("--manifest", type=Path, help="add the figures to this manifest")
    parser.add_argument(
        "--min-exact", type=float, help="exit with code 3 below this share of exact answers"
    )
    parser.add_argument("--llama-bin", type=Path, help="folder of the built llama.cpp programs")
    return parser  # fmt: skip


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
