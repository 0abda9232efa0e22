"""Write generated FOLIO cataloguing rows as OpenAI chat JSONL.

    python scripts/generate_folio.py --rows 1000 --seed train --out build/folio/train.jsonl

The same seed gives the same rows; other seeds give other rows (a held-out set is a seed that no training used).
"""

import argparse
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from synthetic import lexicon
from synthetic.folio import SYSTEM, Folio, Row

# The word lists are dictionaries and hold every word; rows with these stems are drawn again.
CRUDE = re.compile(
    r"fuck|shit|cunt|nigg|whore|bitch|slut|wank|rapist|faggot|dildo|puta|fick|hure|schlampe|pute|salope",
    re.IGNORECASE,
)


def rare(row: Row) -> bool:
    """Whether the row holds one of the shapes that few rows have and that are learned last."""
    record = row.record
    special = record["instanceTypeText"] != "text" or record["modeOfIssuanceText"] == "serial"
    entry = record["publication"][0] if record["publication"] else {}
    publisher, place = entry.get("publisher") or ",", entry.get("place") or ","
    initial = any(c["name"].endswith(".") for c in record["contributors"])
    return special or initial or "," in publisher or "," in place or ";" in place


def clean_rows(folio: Folio, only_rare: bool) -> Iterator[Row]:
    """Endless rows fit to be shown to anyone."""
    while True:
        row = folio.draw()
        if not CRUDE.search(row.prompt) and (rare(row) or not only_rare):
            yield row


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000, help="how many rows (default 1000)")
    parser.add_argument(
        "--seed", default="train", help="any text; equal seeds give equal rows (default train)"
    )
    parser.add_argument("--rare", action="store_true", help="only rows of rare shapes")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    args = parser.parse_args()
    folio = Folio(Random(args.seed), lexicon.load())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        json.dumps(chat_row(row), ensure_ascii=False) + "\n"
        for row in islice(clean_rows(folio, args.rare), args.rows)
    )
    args.out.write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
