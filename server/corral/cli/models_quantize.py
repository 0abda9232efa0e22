"""`corral models quantize`: smaller files of a model, with what each one loses, and a bar."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from corral.cli.job_verb import absolute, run_kind, show_commands
from corral.cli.models_measure import print_table
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
    MaxKLD,
    MinScore,
    ScoreAdapter,
    ScoreFile,
    ScoreRows,
    Text,
)

Imatrix = Annotated[str, typer.Option(help="Importance matrix: a file, auto (make one), none.")]
Calibration = Annotated[
    Path | None, typer.Option(help="Text to make it from. Default: Corral's own.")
]
AllowRequantize = Annotated[
    bool, typer.Option("--allow-requantize", help="From a quantised file; loses more.")
]
LeaveOutput = Annotated[
    bool, typer.Option("--leave-output-tensor", help="Leave output.weight as it is.")
]


def quantize(
    name: Annotated[str, typer.Argument(help="The model; F32, F16 or BF16.")],
    types: Annotated[list[str], typer.Argument(metavar="TYPE…", help="Q8_0, Q4_K_M, IQ4_XS …")],
    imatrix: Imatrix = "auto",
    calibration: Calibration = None,
    max_kld: MaxKLD = None,
    min_score: MinScore = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Refuse what falls short.")] = True,
    pure: Annotated[bool, typer.Option("--pure", help="Every tensor in the named type.")] = False,
    tensor_type: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN=TYPE", help="Type of matching tensors.")
    ] = None,
    output_tensor_type: Annotated[str, typer.Option(help="Type of output.weight.")] = "",
    token_embedding_type: Annotated[str, typer.Option(help="Type of the embeddings.")] = "",
    leave_output_tensor: LeaveOutput = False,
    allow_requantize: AllowRequantize = False,
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
    """Quantise a model into one or more types, measure each, and register those as NAME-TYPE.

    If one falls short of the bar, none is registered (exit code 3).
    """
    from corral.shelf import quantize as shelf

    given: dict[str, Any] = {
        "name": name, "types": types, "imatrix": _imatrix(imatrix, bool(corral)), "pure": pure,
        "tensor_type": tensor_type or [], "output_tensor_type": output_tensor_type,
        "token_embedding_type": token_embedding_type, "leave_output_tensor": leave_output_tensor,
        "allow_requantize": allow_requantize, "gate": gate, "max_kld": max_kld,
        "min_score": min_score, "ctx": ctx, "chunks": chunks, "score_rows": score_rows,
        "score_adapter": score_adapter, "bench": bench,
        **absolute(bool(corral), calibration=calibration, text=text, score_file=score_file, html=html),
    }  # fmt: skip
    if dry_run:
        show_commands(shelf.HERE, given, data_dir, config)
        return
    done = run_kind(shelf.HERE, given, corral=corral, data_dir=data_dir, config=config)
    if as_json:
        print(json.dumps({"registered": done["registered"], **done["result"]}, indent=2))
    else:
        print_table(done["result"])
        print(f"registered: {', '.join(done['registered'])}")


def _imatrix(value: str, remote: bool) -> str:
    return value if value in ("auto", "none") or remote else str(Path(value).absolute())
