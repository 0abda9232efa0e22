"""`corral finetune export-recipe`: the same job for those who train elsewhere."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from corral.cli.finetune_request import MethodName, request_of, settings_of
from corral.cli.options import AsJson


class ToolName(StrEnum):
    """Who trains."""

    axolotl = "axolotl"
    unsloth = "unsloth"
    llama_factory = "llama-factory"


def export_recipe(
    to: Annotated[ToolName, typer.Option(help="Who trains.")],
    model: Annotated[str, typer.Option(help="The model here that the adapter is for.")],
    base: Annotated[
        str, typer.Option(help="Its unquantised weights: Hugging Face repository or folder.")
    ],
    file: Annotated[Path, typer.Option(help="Training rows, any format of `corral data`.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    valid: Annotated[Path | None, typer.Option(help="Validation rows.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times over the rows.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of order and adapter.")] = None,
    method: Annotated[MethodName, typer.Option(help="How to train.")] = MethodName.supervised,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other option, like rank=16."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a job as a folder for axolotl, unsloth or LLaMA-Factory: rows, configuration, README."""
    from corral.datasets.findings import Findings
    from corral.finetune.recipes.write import write
    from corral.finetune.schemas import CreateJob

    body = request_of(
        model=model, method=method.value, suffix=None, seed=seed, epochs=epochs, engine=None,
        options=settings_of(set_ or ()), metadata={},
    )  # fmt: skip
    request = CreateJob.parse({**body, "training_file": "file-here"})
    findings = Findings()
    written = write(to.value, request, base, file, valid, out, findings)
    for finding in findings.first(20):
        print(f"{finding}", file=sys.stderr)
    if as_json:
        print(json.dumps([str(path) for path in written], indent=2))
    else:
        for path in written:
            print(path)
