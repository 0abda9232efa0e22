"""`corral usage`: what was used, by key, model and day. Local, or of the Corral at --url."""

import json
from typing import Annotated, Any

import typer

from corral.cli import keys_api
from corral.cli.options import AsJson, Config, Corral, DataDir

COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "generated_tokens")
HEADINGS = ("REQUESTS", "ERRORS", "PROMPT", "CACHED", "GENERATED")


def usage(
    key: Annotated[str, typer.Option(help="Only this key's, by its id.")] = "",
    model: Annotated[str, typer.Option(help="Only of this model.")] = "",
    since: Annotated[str, typer.Option(help="From this day on, like 2027-01-31 (UTC).")] = "",
    until: Annotated[str, typer.Option(help="To this day.")] = "",
    as_json: AsJson = False,
    url: Corral = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Requests and tokens by key, model and day; a running Corral stores them every two seconds."""
    given = {"key": key, "model": model, "since": since, "until": until}
    query = {name: value for name, value in given.items() if value}
    found = keys_api.connect(url, data_dir, config).usage(query)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(found)


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_footer=len(found) > 1)
    for heading, footer in (("DAY", "in all"), ("KEY", ""), ("NAME", ""), ("MODEL", "")):
        table.add_column(heading, footer, no_wrap=heading in ("DAY", "KEY"))
    for name, heading in zip(COUNTS, HEADINGS, strict=True):
        table.add_column(heading, f"{sum(row[name] for row in found):,}", justify="right")
    for row in found:
        counts = [f"{row[name]:,}" for name in COUNTS]
        table.add_row(row["day"], row["key"], Text(row["name"] or ""), Text(row["model"]), *counts)
    Console().print(table)
