"""Write rows of one kind of the base model's generic tasks as OpenAI chat JSONL, to train or to evaluate on.

    python scripts/generate_tasks.py --kind extract --rows 100 --seed held-out --out build/tasks/extract.jsonl

Seeds of digits and a slash (`1/0`) are those of pretraining; any other text gives rows that it has not seen.
"""

import argparse
import json
from pathlib import Path
from random import Random

from synthetic import lexicon
from synthetic.tasks import MIXES, Example, Tasks

# Raw text is no conversation.
KINDS = sorted({kind for mix in MIXES.values() for kind in mix} - {"raw_text"})


def chat_row(example: Example) -> dict[str, object]:
    """The conversation, with its tools where it has some."""
    return {"messages": example.messages} | ({"tools": example.tools} if example.tools else {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=KINDS, required=True, help="which task")
    parser.add_argument("--rows", type=int, default=100, help="how many rows (default 100)")
    parser.add_argument("--seed", default="held-out", help="any text (default held-out)")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    args = parser.parse_args()
    tasks = Tasks(Random(args.seed), lexicon.load())
    rows = [chat_row(getattr(tasks, args.kind)()) for _ in range(args.rows)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    args.out.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
