"""Render training rows with the serving model's own chat template and tokenizer: JSONL in, token rows out.

    python scripts/render_data.py --model models/corral-tiny.gguf --file train.jsonl --out build/rows

FILE is any format of `corral data check`; OpenAI chat (with tools and `weight`) and openai-dpo are the
usual ones. The text comes from `/apply-template` of a private llama-server that opens the GGUF, the
tokens from llama.cpp's own tokenizer, so training sees what serving will (docs/finetuning.md). OUT
is a folder (scripts/token_rows.py says what is in it). A row that cannot be used ends the stage with
its line and field. Needs the `data` group and a built llama.cpp.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stage
from corral.datasets.check import find_format, read_rows
from corral.datasets.counting import model_facts
from corral.datasets.findings import Findings, Place
from corral.datasets.rendering import Example, Renderer
from corral.datasets.rows import Row
from corral.datasets.template_server import TemplateServer
from corral.datasets.tokenizer import Tokenizer
from corral.datasets.turn_checks import check_row
from corral.errors import InvalidData
from corral.settings import load as load_settings
from token_rows import Kind, TokenWriter

BATCH = 32
POLICIES = ("error", "truncate", "drop")


@dataclass(frozen=True)
class Limits:
    """The longest example, and what becomes of longer ones: POLICIES."""

    longest: int
    policy: str = "error"


@dataclass
class Left:
    """How many rows were left out or cut."""

    dropped: int = 0
    truncated: int = 0
    nothing_learned: int = 0


def good_rows(path: Path, format_name: str | None) -> Iterator[tuple[int, Row]]:
    """Line and row, in order; InvalidData names line and field of the first row that is wrong."""
    if not path.is_file():
        raise InvalidData(f"{path} does not exist; --file takes a file of rows", param="file")
    findings = Findings(keep=1)
    place = Place(findings, str(path))
    for row in read_rows(path, find_format(path, format_name), place):
        check_row(row, place)
        _stop_at_error(findings)
        yield place.line, row
    _stop_at_error(findings)


def _stop_at_error(findings: Findings) -> None:
    if findings.failed:
        first = findings.first(1, ("error",))[0]
        raise InvalidData(str(first), param=first.field or first.file, code=first.code)


def kind_of(row: Row) -> Kind:
    return "preference" if row.kind == "preference" else "chat"


def rendered(
    renderer: Renderer, path: Path, rows: list[tuple[int, Row]]
) -> Iterator[tuple[int, list[Example]]]:
    """Line and examples of each row; an error names the line."""
    try:
        yield from zip(
            (line for line, _ in rows), renderer.render_many([r for _, r in rows]), strict=True
        )
        return
    except InvalidData as error:
        # Some row of the batch was refused: one by one finds which. A batch of one is the one.
        if len(rows) == 1:
            line = rows[0][0]
            raise InvalidData(
                f"{path}:{line}: {error.param or 'row'}: {error.message}",
                param=error.param,
                code=error.code,
            ) from None
    for row in rows:
        yield from rendered(renderer, path, [row])


def fitted(
    examples: list[Example], limits: Limits, left: Left, where: str
) -> list[tuple[list[int], list[bool]]]:
    """Ids and learned flags of the examples of one row that go in; none when the row is left out."""
    longest = max(len(example.tokens) for example in examples)
    if longest > limits.longest:
        if limits.policy == "error":
            raise InvalidData(
                f"{where}: messages: {longest:,} tokens, more than the {limits.longest:,} allowed; shorten the "
                "row, or choose --too-long truncate or drop",
                param="messages",
                code="too_long",
            )
        left.dropped += limits.policy == "drop"
        left.truncated += limits.policy == "truncate"
        if limits.policy == "drop":
            return []
    cut = [(e.tokens[: limits.longest], e.mask[: limits.longest]) for e in examples]
    if not all(any(learned[1:]) for _, learned in cut):
        left.nothing_learned += 1
        return []
    return cut


def write_rows(
    path: Path, format_name: str | None, renderer: Renderer, out: Path, limits: Limits, tell: Any
) -> dict[str, Any]:
    """Render the file into the folder `out`; the facts written there."""
    left, kind, batch = Left(), None, list[tuple[int, Row]]()
    with TokenWriter(out) as writer:

        def flush() -> None:
            for line, examples in rendered(renderer, path, batch):
                if kind == "preference" and len(examples) != 2:
                    raise InvalidData(
                        f"{path}:{line}: preferred_output: the chat template shows its turns differently as the "
                        "talk goes on, so the answer is not one example; give one assistant turn",
                        param="preferred_output",
                    )
                for ids, learned in fitted(examples, limits, left, f"{path}:{line}"):
                    writer.add(ids, learned, line)
            tell.progress(batch[-1][0], None, "lines", f"rendering {path.name}")
            batch.clear()

        for line, row in good_rows(path, format_name):
            if kind not in (None, kind_of(row)):
                raise InvalidData(
                    f"{path}:{line}: preferences and plain conversations are mixed; one file is for one method",
                    param=str(path),
                )
            kind = kind_of(row)
            batch.append((line, row))
            if len(batch) == BATCH:
                flush()
        if batch:
            flush()
        facts = writer.finish(kind or "chat", {"source": path.name, **vars(left)})
    if not facts["examples"]:
        raise InvalidData(
            f"{path}: no row to train on ({vars(left)}); every row was left out or the file is empty",
            param=str(path),
        )
    return facts


def render_file(
    model: Path,
    path: Path,
    out: Path,
    llama_bin: Path,
    tell: Any,
    *,
    format_name: str | None = None,
    max_length: int | None = None,
    too_long: str = "error",
) -> dict[str, Any]:
    """The whole stage, for other stages: starts the private llama-server and ends it."""
    context = model_facts(model).context or 4096
    limits = Limits(min(max_length or context, context), too_long)
    with (
        Tokenizer(model, llama_bin) as tokens,
        TemplateServer(model, llama_bin / "llama-server") as template,
    ):
        facts = write_rows(path, format_name, Renderer(template, tokens), out, limits, tell)
    for name in ("dropped", "truncated", "nothing_learned"):
        if facts[name]:
            tell.message(f"{path.name}: {facts[name]:,} rows {name.replace('_', ' ')}", "warning")
    return facts


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options about rows that the training stage has as well."""
    parser.add_argument("--format", help="format of the rows (default: found from the rows)")
    parser.add_argument(
        "--max-length", type=int, help="longest example in tokens (default: the model's context)"
    )
    parser.add_argument(
        "--too-long", choices=POLICIES, default="error", help="what to do with longer ones (error)"
    )
    parser.add_argument("--llama-bin", type=Path, help="folder of the built llama.cpp programs")


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    bin_dir = args.llama_bin or load_settings().llama_bin_dir
    facts = render_file(
        args.model,
        args.file,
        args.out,
        bin_dir,
        tell,
        format_name=args.format,
        max_length=args.max_length,
        too_long=args.too_long,
    )
    tell.result(facts)


if __name__ == "__main__":
    parser = stage.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF that will serve")
    parser.add_argument("--file", type=Path, required=True, help="training or validation rows")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_options(parser)
    stage.run(main, parser.parse_args())
