"""Write generated conversations of FOLIO's edge-ai agent as OpenAI chat JSONL, with tools and tool calls.

    python scripts/generate_edge_ai.py --rows 1000 --seed train --out build/edge-ai/train.jsonl
    python scripts/generate_edge_ai.py --rows 2500 --seed first --short --out build/edge-ai/short.jsonl

The same seed gives the same rows; other seeds give other rows. `--short` leaves out the system prompt and what describes the tools:
a third of the tokens, to learn the task on before the whole prompts (models/README.md). `--rare` says what decides a look-up
and is seldom said (a map, a body, a translator) in about half of the rows.
"""

import argparse
import json
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

from corral.datasets import edge_ai
from generate_folio import CRUDE
from synthetic import lexicon
from synthetic.edge_ai import RARE, USUAL, Case, EdgeAi

# The share of look-ups of a role that find nothing, as for a name that a tenant does not have.
UNKNOWN = 0.03


def clean_case(drawn: EdgeAi) -> Case:
    """The next case fit to be shown to anyone."""
    while CRUDE.search((case := drawn.draw()).sentence):
        pass
    return case


def ids_of(rng: Random) -> edge_ai.Ids:
    """A new table of reference data; now and then a role is not in it."""
    table, missing = edge_ai.random_ids(rng), rng.random() < UNKNOWN

    def ids(key: str, name: str) -> str:
        return "" if missing and key == "contributorTypeId" else table(key, name)

    return ids


def chat_row(drawn: EdgeAi, short: bool, system: str | None) -> dict[str, Any]:
    """One conversation; tools as one or the other release of pydantic-ai describes them."""
    case = clean_case(drawn)
    row = edge_ai.chat_row(system or drawn.prompt(), case.sentence, case.record, ids_of(drawn.rng))
    tools = deepcopy(row["tools"])
    if short:
        row["messages"] = row["messages"][1:]
        for tool in tools:
            tool["function"] = {"name": tool["function"]["name"], "parameters": {}}
    elif drawn.rng.random() < 0.5:
        tools[1]["function"]["parameters"]["properties"]["record"]["anyOf"][1]["properties"] = {}
    return row | {"tools": tools}


def case_row(drawn: EdgeAi) -> dict[str, Any]:
    """What a test asks, and the record that it expects, with names where ids will be."""
    case = clean_case(drawn)
    return {"system": drawn.prompt(), "sentence": case.sentence, "record": case.record}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000, help="how many rows (default 1000)")
    parser.add_argument(
        "--seed", default="train", help="any text; equal seeds give equal rows (default train)"
    )
    parser.add_argument("--short", action="store_true", help="no system prompt, bare tools")
    parser.add_argument("--rare", action="store_true", help="more of what is seldom said")
    parser.add_argument(
        "--system",
        type=Path,
        help="file with the system prompt of all rows (default: made up for each)",
    )
    parser.add_argument(
        "--cases", action="store_true", help="only system prompt, sentence and record, for tests"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    args = parser.parse_args()
    drawn = EdgeAi(Random(args.seed), lexicon.load(), RARE if args.rare else USUAL)
    system = args.system.read_text(encoding="utf-8") if args.system else None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8") as out:
        for _ in range(args.rows):
            row = case_row(drawn) if args.cases else chat_row(drawn, args.short, system)
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
