"""The share of an evaluation file that a GGUF answers right, asked and judged as evaluate.py does."""

import asyncio
from typing import Any

from evaluation.asking import Asked, run
from private_server import SLOTS, PrivateServer

LONGEST_ANSWER = 1500


def score(server: PrivateServer, rows: list[dict[str, Any]]) -> float:
    """The share of rows answered right, greedily."""
    asked = Asked(server.url, "model", server.key, LONGEST_ANSWER, SLOTS)
    outcomes = asyncio.run(run(asked, rows))
    return round(sum(outcome.exact for outcome in outcomes) / len(outcomes), 4)
