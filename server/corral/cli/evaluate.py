"""`corral evaluate`: how many held-out rows a model answers right, and whether another does better."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from corral import settings as settings_module
from corral.cli.job_verb import absolute, run_kind
from corral.cli.options import AsJson, Config, Corral, DataDir


def evaluate(
    model: Annotated[str, typer.Option(help="The model to judge.")],
    file: Annotated[Path, typer.Option(help="Chat JSONL with the expected answers.")],
    against: Annotated[
        str, typer.Option(help="Compare with this model. Default: an adapter's base.")
    ] = "",
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at here.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    loss: Annotated[bool, typer.Option("--loss/--no-loss", help="Loss and perplexity.")] = True,
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Ask one or two models every row of a file, and compare the answers with the file's.

    The models are those here, each in a llama-server of its own; with --url the running Corral's.
    """
    from corral.shelf import evaluate as shelf

    with _key_file(url, data_dir, config) as key_file:
        given: dict[str, Any] = {
            "model": model, "against": against, "rows": rows, "max_tokens": max_tokens,
            "loss": loss, "url": url,
            **absolute(False, file=file, html=html, api_key_file=key_file),
        }  # fmt: skip
        done = run_kind(shelf.HERE, given, data_dir=data_dir, config=config)
    if as_json:
        print(json.dumps(done["result"], indent=2))
    else:
        print_table(done["result"])


@contextmanager
def _key_file(url: str, data_dir: Path | None, config: Path | None) -> Iterator[Path | None]:
    """The API key in a file that only this user can read; None without one."""
    keys = settings_module.load({"data_dir": data_dir}, config).api_keys
    if not (url and keys):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        path.touch(mode=0o600)
        path.write_text(keys[0].get_secret_value())
        yield path


SHARES = {
    "whole answer right": "exact", "valid JSON": "valid_json", "valid under schema": "schema_valid",
    "F1 over fields": "field_f1",
}  # fmt: skip
NUMBERS = {
    "loss": ("loss", ".4f"), "perplexity": ("perplexity", ".3f"),
    "latency p50, ms": ("p50_ms", ",.0f"), "latency p95, ms": ("p95_ms", ",.0f"),
}  # fmt: skip


def print_table(result: dict[str, Any]) -> None:
    """The figures, one column to a model, then what the last one has gained; what was not measured is
    left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    models = result.get("models", [result])
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{models[0]['rows']} ROWS", no_wrap=True)
    for each in models:
        table.add_column(Text(each["model"]), justify="right", no_wrap=True)
    for title, cells in _lines(models):
        table.add_row(title, *cells)
    Console(width=WIDTH, soft_wrap=True).print(table)
    for each in result.get("gains", []):
        low, high = each["exact"]["interval"]
        sure = "more than chance" if each["exact"]["sure"] else "may be chance"
        print(
            f"{each['model']} against {each['against']}: {100 * each['exact']['gain']:+.1f} points right"
            f" (95% interval {100 * low:+.1f} to {100 * high:+.1f}: {sure})"
        )


# Wider than any table, so that nothing is cut where the output is no terminal.
WIDTH = 300


def _lines(models: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    forms = {title: (key, ".1%") for title, key in SHARES.items()} | NUMBERS
    for title, (key, form) in forms.items():
        values = [each[key] for each in models]
        if any(value is not None for value in values):
            yield title, ["-" if value is None else format(value, form) for value in values]
