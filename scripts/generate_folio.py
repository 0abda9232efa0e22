"""Write generated FOLIO cataloguing rows as OpenAI chat JSONL.

    python scripts/generate_folio.py --rows 1000 --seed train --out build/folio/train.jsonl

The same seed gives the same rows; other seeds give other rows (a held-out set is a seed that no training used).
"""

import argparse
import json
from pathlib import Path
from random import Random

from synthetic import lexicon
from synthetic.folio import SYSTEM, Folio, Row


def chat_row(row: Row) -> dict[str, list[dict[str, str]]]:
    """The row as a conversation: system, user, and the record as JSON text."""
    answer = json.dumps(row.record, ensure_ascii=False)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row.prompt},
            {"role": "assistant", "content": answer},
        ]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="how many rows (default 1000)")
    parser.add_argument("--seed", default="train", help="any text; equal seeds give equal rows (default train)")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    args = parser.parse_args()
    folio = Folio(Random(args.seed), lexicon.load())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps(chat_row(folio.draw()), ensure_ascii=False) + "\n" for _ in range(args.rows))
    args.out.write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
