"""`corral models convert`: a Hugging Face folder, or a PEFT LoRA, to GGUF."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from corral.cli.job_verb import absolute, run_kind, show_commands
from corral.cli.options import AsJson, Config, Corral, DataDir, DryRun


def convert(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with config.json.")],
    name: Annotated[str, typer.Option(help="Name to serve it under.")],
    outtype: Annotated[str, typer.Option(help="auto, f32, f16, bf16 or q8_0.")] = "auto",
    base: Annotated[str, typer.Option(help="Of a LoRA: the model here it was trained over.")] = "",
    base_dir: Annotated[
        Path | None, typer.Option(help="Of a LoRA: folder with that model's config.json.")
    ] = None,
    allow_token_differences: Annotated[
        bool, typer.Option("--allow-token-differences", help="Record them instead of failing.")
    ] = False,
    dry_run: DryRun = False,
    corral: Corral = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Convert to GGUF, check tokenizer and chat template token by token, and register it."""
    from corral.shelf import convert as shelf

    given: dict[str, Any] = {
        "name": name, "outtype": outtype, "base": base,
        "allow_token_differences": allow_token_differences,
        **absolute(bool(corral), dir=folder, base_dir=base_dir),
    }  # fmt: skip
    if dry_run:
        show_commands(shelf.HERE, given, data_dir, config)
        return
    done = run_kind(shelf.HERE, given, corral=corral, data_dir=data_dir, config=config)
    result = done["result"]
    if as_json:
        print(json.dumps({"registered": done["registered"], **result}, indent=2))
        return
    for made in done["registered"]:
        size = f"{result['bytes'] / 1e6:,.1f} MB"
        print(f"{made}: {result['architecture']} {result['kind']}, {size}")
    for difference in result["token_differences"]:
        print(f"differs: {difference}")
