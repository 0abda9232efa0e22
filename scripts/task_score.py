"""The share of an evaluation file that a GGUF answers right, asked and judged as evaluate.py does."""

import asyncio
import json
from pathlib import Path
from typing import Any

from corral.errors import BadRequest
from evaluation.asking import Asked, run
from private_server import SLOTS, PrivateServer

LONGEST_ANSWER = 1500


def score(server: PrivateServer, rows: list[dict[str, Any]]) -> float:
    """The share of rows answered right, greedily."""
    asked = Asked(server.url, "model", server.key, LONGEST_ANSWER, SLOTS)
    outcomes = asyncio.run(run(asked, rows))
    return round(sum(outcome.exact for outcome in outcomes) / len(outcomes), 4)


def found(evaluation: Path, label: str) -> float:
    """The share that evaluate.py has found for the model it called so; BadRequest when it asked none."""
    result = json.loads(evaluation.read_text("utf-8"))
    shares = {each["model"]: round(each["exact"], 4) for each in result.get("models", [result])}
    if label not in shares:
        raise BadRequest(f"{evaluation.name} has no model `{label}`; it has {sorted(shares)}")
    return float(shares[label])
