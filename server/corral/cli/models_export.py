"""`corral models export`: a model as a file that GPT4All, LM Studio or Ollama loads."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from corral.cli.job_verb import absolute, run_kind
from corral.cli.options import AsJson, Config, Corral, DataDir


def export(
    name: Annotated[str, typer.Argument(help="Model or adapter.")],
    to: Annotated[str, typer.Option(help="gpt4all, lmstudio, ollama or folder.")],
    dest: Annotated[
        Path | None, typer.Option(help="Folder, instead of the app's own or data/exports.")
    ] = None,
    quantize: Annotated[str, typer.Option(metavar="TYPE", help="Quantise, as Q4_K_M.")] = "",
    merge: Annotated[
        bool, typer.Option("--merge/--no-merge", help="Adapters: one file, or apart (Ollama).")
    ] = True,
    prompts: Annotated[
        Path | None, typer.Option(help="Chat JSONL to check a merged model with.")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="Go template for Ollama.")] = None,
    publisher: Annotated[str, typer.Option(help="First folder under LM Studio's.")] = "corral",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    corral: Corral = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Put a model where a desktop app finds it. An adapter is merged into its base, and the merged
    model must answer as before, or nothing is exported (exit code 3)."""
    from corral.shelf.export import HERE

    given = {
        "name": name, "to": to, "quantize": quantize, "publisher": publisher, "merge": merge,
        "force": force,
        **absolute(bool(corral), dest=dest, template=template, prompts=prompts),
    }  # fmt: skip
    result = run_kind(HERE, given, corral=corral, data_dir=data_dir, config=config)["result"]
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    print(f"{result['path']}: {result['bytes'] / 1e6:,.1f} MB, {result['type']}")
    checked = result.get("merge_check")
    if checked:
        ties = f", {checked['near_ties']} but for a near tie" if checked["near_ties"] else ""
        print(f"answers as base and adapter did: {checked['same']} of {checked['prompts']}{ties}")
    ollama = result.get("ollama")
    if ollama:
        print(f"run it: ollama run {ollama['model']}" if ollama["created"] else ollama["command"])
