"""Does a merged model answer as its base with the adapter did? Both are asked the same, greedily.

Merging rounds (to F16 where the base is not F32), so where two tokens were as good as equal the merged model may take the other:
that counts as the same when the two were less than `NEAR_TIE` apart in log probability. Anything else is a different model.
"""

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import GateError
from llama_tools import LlamaTools
from private_server import PrivateServer

NEAR_TIE = 0.1
TOKENS = 64
SECONDS = 600
Messages = list[dict[str, Any]]
# For an adapter whose task is not known: any text will do, as both are asked the same.
PROMPTS: tuple[Messages, ...] = (
    [{"role": "user", "content": "Write a JSON object with the keys title and year."}],
    [
        {
            "role": "user",
            "content": "What is the capital of Portugal, and on which river does it lie?",
        }
    ],
    [
        {"role": "system", "content": "You extract facts."},
        {
            "role": "user",
            "content": "For The Silent Orchard published in 1998 by Alder Press, Ghent.",
        },
    ],
    [{"role": "user", "content": 'Copy this line exactly: 3.14 | Zoë | [a, b] | "done"'}],
)


@dataclass(frozen=True)
class Token:
    """One token of an answer, and how much better it was than the next best."""

    text: str
    lead: float


Answer = list[Token]


def ask(server: PrivateServer, messages: Messages) -> Answer:
    """The first tokens of the greedy answer."""
    body = {
        "messages": messages, "temperature": 0, "max_tokens": TOKENS, "cache_prompt": False,
        "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"},
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        choice = json.load(reply)["choices"][0]
    return [_token(item) for item in (choice.get("logprobs") or {}).get("content") or []]


def _token(item: dict[str, Any]) -> Token:
    scores = sorted((top["logprob"] for top in item["top_logprobs"]), reverse=True)
    return Token(item["token"], scores[0] - scores[1] if len(scores) > 1 else float("inf"))


def answers(
    tools: LlamaTools,
    model: Path,
    lora: Path | None,
    prompts: Sequence[Messages],
    threads: int | None,
) -> list[Answer]:
    """What a model says to each prompt, by a llama-server of its own."""
    with PrivateServer(tools, model, lora, threads) as server:
        return [ask(server, messages) for messages in prompts]


def first_difference(before: Answer, after: Answer) -> int | None:
    """Where two answers part; None when they do not."""
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if one.text != other.text:
            return index
    return None if len(before) == len(after) else min(len(before), len(after))


def compare(before: Sequence[Answer], after: Sequence[Answer]) -> dict[str, int]:
    """How many answers are the same, and how many part at a near tie; GateError for any other."""
    same = ties = 0
    for number, (one, other) in enumerate(zip(before, after, strict=True), 1):
        at = first_difference(one, other)
        if at is None:
            same += 1
        elif at < len(one) and one[at].lead <= NEAR_TIE:
            ties += 1
        else:
            raise GateError(
                f"the merged model does not answer as base and adapter did: prompt {number}, token "
                f"{at + 1}: {_said(one, at)} became {_said(other, at)}; nothing was exported"
            )
    return {"prompts": len(before), "same": same, "near_ties": ties}


def _said(answer: Answer, at: int) -> str:
    return repr(answer[at].text) if at < len(answer) else "the end"
