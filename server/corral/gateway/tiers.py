"""Which rank a request waits in: its key's priority, which the request itself may lower. Pure.

The word for it is OpenAI's `service_tier`. Its answer tells the tier that was in force, as theirs does,
where the request had said one. Whatever Corral does not know passes as if it were not there.
"""

from collections.abc import Mapping
from typing import Any

from corral.caller import Priority
from corral.gateway.waiting import RANKS

# The best rank that a tier may have; `standard_only` is Anthropic's word. `auto` and `scale` leave it to
# the key.
BEST = {
    "priority": "high",
    "fast": "high",
    "default": "normal",
    "standard_only": "normal",
    "flex": "low",
}
TOLD = ("priority", "default", "flex")


def rank(priority: Priority, body: Mapping[str, Any]) -> int:
    """The rank, an index of RANKS, of a request by a key of this priority."""
    tier = body.get("service_tier")
    best = BEST.get(tier, "high") if isinstance(tier, str) else "high"
    return max(RANKS.index(priority), RANKS.index(best))


def told(rank: int, body: Mapping[str, Any]) -> str | None:
    """The tier to answer with; None where the request named none."""
    return TOLD[rank] if isinstance(body.get("service_tier"), str) else None
