"""`corral data edge-ai`: rows with a record as conversations of FOLIO's edge-ai agent."""

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import data_output as output
from corral.cli.source_options import AsJson, Seed
from corral.errors import BadRequest

if TYPE_CHECKING:
    from corral.datasets.findings import Place
    from corral.datasets.rows import Row


def edge_ai(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Rows that ask with a sentence and answer with a record."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The suffix decides: .jsonl .json .parquet.")
    ],
    system: Annotated[
        Path | None, typer.Option(help="File with the system prompt that your edge-ai sends.")
    ] = None,
    seed: Seed = 1,
    max_findings: Annotated[int, typer.Option(min=0, help="Findings to print; 0 for all.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Make an edge-ai agent's conversations of records that have names where ids will be."""
    from corral.datasets import containers
    from corral.datasets.check import find_format, read_rows
    from corral.datasets.findings import Place

    prompt = _system(system)
    with (
        output.collected(max_findings, None) as findings,
        output.progress("converting") as step,
    ):
        reader, place = find_format(source, None), Place(findings, str(source))
        with containers.create(target, place) as writer:
            for row in read_rows(source, reader, place):
                made = _conversation(row, prompt, f"{seed}/{writer.rows}", place)
                if made is not None:
                    writer.write(made)
                step(1)
            if writer.rows:
                writer.commit()
    output.selection({"file": str(target), "rows": writer.rows}, findings, as_json)


def _system(file: Path | None) -> str:
    from corral.datasets import edge_ai

    if file is None:
        return edge_ai.SYSTEM
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {file}: {error}", param="system") from None


def _conversation(row: "Row", system: str, seed: str, place: "Place") -> dict[str, Any] | None:
    """The conversation; None, and a finding, for a row whose answer is no record with an id to look up."""
    from corral.datasets import edge_ai
    from corral.datasets.rows import answers, question

    try:
        record = json.loads(answers(row)[-1])
    except (IndexError, ValueError):
        record = None
    if not isinstance(record, dict) or not edge_ai.look_ups(record):
        keys = ", ".join(edge_ai.ID_KEYS)
        place.error("", "no_record", f"the answer must be a JSON object with names under {keys}")
        return None
    return edge_ai.chat_row(system, question(row), record, edge_ai.random_ids(Random(seed)))
