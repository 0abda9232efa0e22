"""`corral models measure`: what quantised files lose against the unquantised model."""

import json
import sys
from typing import Annotated, Any

import typer

from corral.cli.job_verb import absolute, run_kind, show_commands
from corral.cli.options import (
    AsJson,
    Bench,
    Chunks,
    Config,
    Corral,
    Ctx,
    DataDir,
    DryRun,
    Html,
    ScoreAdapter,
    ScoreFile,
    ScoreRows,
    Text,
)


def measure(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Quantised models.")],
    against: Annotated[
        str, typer.Option(help="The unquantised model. Default: their recorded base.")
    ] = "",
    max_kld: Annotated[
        float | None, typer.Option(help="Exit with code 3 over this mean KL divergence.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Exit with code 3 under this share right.")
    ] = None,
    text: Text = None,
    ctx: Ctx = None,
    chunks: Chunks = None,
    score_file: ScoreFile = None,
    score_rows: ScoreRows = None,
    score_adapter: ScoreAdapter = "",
    html: Html = None,
    bench: Bench = True,
    dry_run: DryRun = False,
    corral: Corral = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Measure size, KL divergence, perplexity, speed and, with --score-file, right answers."""
    from corral.shelf import measure as shelf

    given: dict[str, Any] = {
        "names": names, "against": against, "max_kld": max_kld, "min_score": min_score, "ctx": ctx,
        "chunks": chunks, "score_rows": score_rows, "score_adapter": score_adapter, "bench": bench,
        **absolute(bool(corral), text=text, score_file=score_file, html=html),
    }  # fmt: skip
    if dry_run:
        show_commands(shelf.HERE, given, data_dir, config)
        return
    done = run_kind(shelf.HERE, given, corral=corral, data_dir=data_dir, config=config)
    if as_json:
        print(json.dumps(done["result"], indent=2))
    else:
        print_table(done["result"])


COLUMNS = {
    "MB": "bytes", "KLD": "kld_mean", "SAME TOP": "same_top", "PPL": "ppl", "RATIO": "ppl_ratio",
    "SCORE": "score", "TOKENS/S": "tokens_per_second", "FALLBACK": "fallback_share", "GATE": "gate",
}  # fmt: skip
FORMS = {"KLD": ".4f", "SAME TOP": ".1%", "PPL": ".3f", "RATIO": ".4f", "SCORE": ".1%"}
FORMS |= {"TOKENS/S": ",.0f", "FALLBACK": ".1%"}
# Wider than any table, so that nothing is cut where the output is no terminal.
WIDTH = 200


def print_table(result: dict[str, Any]) -> None:
    """The figures, one line to a file, the unquantised model first; what was not measured is left out."""
    from rich.console import Console
    from rich.table import Table

    rows = [result["base"], *result["types"]]
    shown = [head for head, key in COLUMNS.items() if any(row.get(key) is not None for row in rows)]
    table = Table(box=None, pad_edge=False)
    table.add_column("TYPE", no_wrap=True)
    for heading in shown:
        table.add_column(heading, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(row["type"], *(_cell(row, heading) for heading in shown))
    Console(width=WIDTH, soft_wrap=True).print(table)
    for row in result["types"]:
        for why in row["gate"]["why"]:
            print(f"{row['type']}: {why}", file=sys.stderr)


def _cell(row: dict[str, Any], heading: str) -> str:
    value = row.get(COLUMNS[heading])
    if value is None:
        return ""
    if heading == "GATE":
        return "passed" if value["passed"] else "REFUSED"
    return f"{value / 1e6:.1f}" if heading == "MB" else format(value, FORMS[heading])
