"""Ask a served model the rows of a file, some at a time, greedily."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from corral.errors import ToolError
from evaluation.scoring import Outcome, judge

# What of a row belongs in the request; its other keys are for graders.
_SENT = ("tools", "tool_choice", "parallel_tool_calls")


@dataclass(frozen=True)
class Asked:
    """Where and how to ask. `model` None asks for no name, as a private llama-server allows."""

    url: str
    model: str
    api_key: str = "local"
    max_tokens: int = 1500
    concurrency: int = 4


async def ask(session: aiohttp.ClientSession, asked: Any, row: dict[str, Any]) -> Outcome:
    """One row; ToolError with the server's reason when it refuses."""
    body = {key: row[key] for key in _SENT if key in row} | {
        "model": asked.model,
        "messages": [_without_weight(message) for message in row["messages"][:-1]],
        "temperature": 0,
        "max_tokens": asked.max_tokens,
    }
    headers = {"Authorization": f"Bearer {asked.api_key}"}
    begin = time.monotonic()
    async with session.post(f"{asked.url}/chat/completions", json=body, headers=headers) as reply:
        data = await reply.json()
        if reply.status != 200:
            raise ToolError(f"{asked.url} answered {reply.status}: {data['error']['message']}")
    ms = 1000 * (time.monotonic() - begin)
    return judge(row, data["choices"][0]["message"], ms)


def _without_weight(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "weight"}


async def run(asked: Any, rows: list[dict[str, Any]], tell: Any = None) -> list[Outcome]:
    """All rows, in their order. `asked` is an Asked or has its fields."""
    slots = asyncio.Semaphore(asked.concurrency)
    done = 0

    async def one(row: dict[str, Any]) -> Outcome:
        nonlocal done
        # A slot, not only a connection: the clock must not run while a row waits for its turn.
        async with slots:
            outcome = await ask(session, asked, row)
        done += 1
        if tell is not None:
            tell.progress(done, len(rows), "rows", f"asking {asked.model}")
        return outcome

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
            return await asyncio.gather(*map(one, rows))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ToolError(f"{asked.url} cannot be asked: {error}") from error
