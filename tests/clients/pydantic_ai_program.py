"""What pydantic-ai programs do with a Corral; prints one JSON object of results by scenario.

    PYTHONPATH=tests/clients/loopback_only build/clients/pydantic-ai/bin/python tests/clients/pydantic_ai_program.py URL

Runs in the environment of its own that tests/clients/make_env.sh makes; tests/e2e/test_pydantic_ai.py
runs it and checks the results. A scenario that raises has `{"raised": …}` as its result.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

PROVIDER = OpenAIProvider(base_url=sys.argv[1], api_key="any")
GREEDY = ModelSettings(temperature=0)
TEXT = "Letter from Anna Berg; to Paul Meyer; Subject: Harbour lights"
SCHEMA = 'Schema: {"sender": "sender", "receiver": "receiver", "subject": "subject"}'


class Letter(BaseModel):
    """What a sentence about a letter says."""

    sender: str
    receiver: str
    subject: str


class Filed(BaseModel):
    """A letter whose sender was looked up."""

    senderId: str
    receiver: str


def chat(name: str = "corral-tiny") -> Model:
    return OpenAIChatModel(name, provider=PROVIDER)


def responses() -> Model:
    return OpenAIResponsesModel("corral-tiny", provider=PROVIDER)


async def typed(model: Model, output: Any, system: str = "") -> dict[str, Any]:
    """The object that an agent with this output type returns."""
    agent = Agent(model, output_type=output, system_prompt=system, model_settings=GREEDY)
    result = await agent.run(TEXT)
    letter = result.output
    assert isinstance(letter, Letter)
    return {**letter.model_dump(), "requests": result.usage.requests}


async def plain(model: Model) -> str:
    agent = Agent(model, model_settings=GREEDY)
    return str((await agent.run("Repeat exactly: Hedgerow lanterns")).output)


async def streamed(model: Model) -> dict[str, Any]:
    agent = Agent(model, model_settings=GREEDY)
    async with agent.run_stream("Repeat exactly: Hedgerow lanterns") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    return {"pieces": pieces, "tokens": result.usage.output_tokens}


async def with_tool(model: Model) -> dict[str, Any]:
    """The agent calls a tool of ours, gets its result, then gives the output."""
    agent = Agent(
        model,
        output_type=ToolOutput(Filed, name="create_record"),
        system_prompt="Look up sender with look_up_code, then call create_record.",
        model_settings=GREEDY,
    )
    asked = []

    def look_up_code(type: str, value: str) -> str:
        asked.append([type, value])
        return "8841-ab03"

    agent.tool_plain(look_up_code)
    result = await agent.run("Letter from Anna Berg; to Paul Meyer")
    return {"asked": asked, "output": result.output.model_dump()}


async def unknown() -> str:
    return await plain(chat("no-such"))


SCENARIOS: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    "tool_output": lambda: typed(chat(), Letter),
    "native_output": lambda: typed(chat(), NativeOutput(Letter), SCHEMA),
    "prompted_output": lambda: typed(chat(), PromptedOutput(Letter), SCHEMA),
    "responses_tool_output": lambda: typed(responses(), Letter),
    "responses_native_output": lambda: typed(responses(), NativeOutput(Letter), SCHEMA),
    "plain": lambda: plain(chat()),
    "responses_plain": lambda: plain(responses()),
    "streamed": lambda: streamed(chat()),
    "responses_streamed": lambda: streamed(responses()),
    "with_tool": lambda: with_tool(chat()),
    "unknown": unknown,
}


async def run(scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    try:
        return await scenario()
    # Each scenario is on its own: one that fails must not hide the others.
    except Exception as error:  # noqa: BLE001
        return {"raised": type(error).__name__, "message": str(error)}


async def main() -> None:
    print(json.dumps({name: await run(scenario) for name, scenario in SCENARIOS.items()}))


if __name__ == "__main__":
    asyncio.run(main())
