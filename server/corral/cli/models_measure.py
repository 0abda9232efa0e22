"""`corral models measure`: what quantised files lose against the unquantised model."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import settings as settings_module
from corral.errors import ToolError
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.jobs.kinds import Kind

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[Path | None, typer.Option(help="Data directory.")]
Config = Annotated[Path | None, typer.Option(help="Settings file.")]
Corral = Annotated[
    str, typer.Option("--corral", "--url", help="Let the running Corral at this address do it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the llama.cpp commands only.")]
Text = Annotated[
    Path | None, typer.Option(help="Text, or chat rows (.jsonl), to measure on. Default: ours.")
]
Ctx = Annotated[int | None, typer.Option(help="Window in tokens.")]
Chunks = Annotated[int | None, typer.Option(help="Only the first N windows.")]
ScoreFile = Annotated[
    Path | None, typer.Option(help="Chat JSONL with expected answers; adds the share right.")
]
ScoreRows = Annotated[int | None, typer.Option(help="Only its first N rows.")]
ScoreAdapter = Annotated[str, typer.Option(help="Adapter to answer them with.")]
Html = Annotated[Path | None, typer.Option(help="Write a page with plot and table here.")]
Bench = Annotated[bool, typer.Option("--bench/--no-bench", help="Measure tokens per second.")]


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
    settings = settings_module.load({"data_dir": data_dir}, config)
    done = run_kind(shelf.HERE, given, settings, corral, dry_run, data_dir, config)
    if done is None:
        return
    if as_json:
        print(json.dumps(done["result"], indent=2))
    else:
        print_table(done["result"])


def absolute(remote: bool, **paths: Path | None) -> dict[str, str]:
    """Paths for a spec: whole ones for this machine, as typed for another."""
    return {key: str(path if remote else path.absolute()) for key, path in paths.items() if path}


def run_kind(
    kind: "Kind",
    given: dict[str, Any],
    settings: Settings,
    corral: str,
    dry_run: bool,
    data_dir: Path | None,
    config: Path | None,
) -> dict[str, Any] | None:
    """Run a job here, or by the Corral at `corral`; its result. With `dry_run` print the commands of
    its stages, and None."""
    spec = kind.parse(given)
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            for stage in kind.plan(spec, settings, Path(folder)):
                _print_commands([*stage.argv, "--dry-run"])
        return None
    if corral:
        from corral.cli.follow import follow

        return follow(corral, kind.name, given, data_dir=data_dir, config=config)
    from corral.jobs.runner import run_now

    return run_now(kind, spec, settings)


def _print_commands(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(done.stderr.strip().removeprefix("error: "))
    sys.stdout.write(done.stdout)


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
