"""Options that verbs share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[Path | None, typer.Option(help="Data directory.")]
Config = Annotated[Path | None, typer.Option(help="Settings file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the llama.cpp commands only.")]
# `models pull` has a --url of its own, the model's address: there it is --corral alone.
Corral = Annotated[
    str, typer.Option("--corral", "--url", help="Let the running Corral at this address do it.")
]
OnlyCorral = Annotated[
    str, typer.Option("--corral", help="Let the running Corral at this address do it.")
]
MaxKLD = Annotated[float | None, typer.Option(help="Refuse a mean KL divergence over this.")]
MinScore = Annotated[float | None, typer.Option(help="Refuse a share of right answers under this.")]
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
