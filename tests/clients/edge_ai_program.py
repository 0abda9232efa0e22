"""FOLIO's edge-ai agent as its contract has it (docs/edge-ai.md); prints what came of each case as a JSON list.

    PYTHONPATH=tests/clients/loopback_only build/clients/pydantic-ai/bin/python tests/clients/edge_ai_program.py URL CASES

Same model name, tools, output type and silence about `max_tokens` and `temperature` as edge-ai; its FOLIO is a table of
ids made up for each case. A case that raises has `{"raised": …}`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

AT_ONCE = 4
RETRIES = 3  # edge-ai's own
SPACE = UUID(int=0)


class AIModelInfo(BaseModel):
    model_name: str
    messages: list[Any]


class Instance(BaseModel):
    """The final response which ends this conversation"""

    model_info: AIModelInfo
    record: str | dict[str, Any]


def id_of(case: str, kind: str, name: str) -> str:
    """The id that this case's FOLIO has for a name."""
    return str(uuid5(SPACE, f"{case}/{kind}/{name}"))


def with_ids(case: str, value: Any) -> Any:
    """The expected record with the ids of this case's FOLIO for names."""
    if isinstance(value, list):
        return [with_ids(case, inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: id_of(case, key, inner) if key.endswith("Id") else with_ids(case, inner)
            for key, inner in value.items()}  # fmt: skip


async def catalogue(case: dict[str, Any]) -> dict[str, Any]:
    """The record that the agent makes of a sentence, and whether it is the expected one."""
    provider = OpenAIProvider(base_url=sys.argv[1], api_key="any")
    agent = Agent(
        OpenAIChatModel("gpt-4o", provider=provider),
        output_type=Instance,
        system_prompt=case["system"],
        retries=RETRIES,
    )

    async def retrieve_reference_data(lookup_type: str, value: str) -> str:
        """Retrieve reference data from FOLIO Inventory API based on lookup type and value."""
        return id_of(case["sentence"], lookup_type, value)

    agent.tool_plain(retrieve_reference_data)
    try:
        result = await agent.run(case["sentence"])
    # Each case is on its own: one that fails must not hide the others.
    except Exception as error:  # noqa: BLE001
        return {"raised": type(error).__name__, "message": str(error)[:300]}
    record = result.output.record
    expected = with_ids(case["sentence"], case["record"])
    # As edge-ai's router does: an object fails there.
    made = json.loads(record) if isinstance(record, str) else None
    return {"record": record, "requests": result.usage.requests, "right": made == expected}


async def main() -> None:
    cases = [json.loads(line) for line in Path(sys.argv[2]).read_text("utf-8").splitlines()]
    room = asyncio.Semaphore(AT_ONCE)

    async def one(case: dict[str, Any]) -> dict[str, Any]:
        async with room:
            return await catalogue(case)

    print(json.dumps(await asyncio.gather(*(one(case) for case in cases))))


if __name__ == "__main__":
    asyncio.run(main())
