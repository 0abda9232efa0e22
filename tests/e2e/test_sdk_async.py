"""Many streams at once, and streams that their client leaves early."""

import asyncio
import time

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from tests.e2e.corral_process import CorralProcess, wait_for

# Tokens: an answer of so many keeps its slot for a second or more.
LENGTH = 2000
SLOTS = 4
WORDS = ["amber", "birch", "copper", "daisy", "ember", "fjord", "garnet", "hazel"]


async def repeat(client: AsyncOpenAI, word: str) -> str:
    stream = await client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": f"Repeat exactly: {word}"}],
        temperature=0,
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def endless(client: AsyncOpenAI) -> AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        max_tokens=LENGTH,
        extra_body={"ignore_eos": True},
    )


async def unread(client: AsyncOpenAI) -> None:
    """An endless answer that nobody looks at: its time is llama-server's alone."""
    await client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=LENGTH,
        extra_body={"ignore_eos": True},
    )


async def test_eight_streams_at_once_each_get_their_own_answer(async_client: AsyncOpenAI) -> None:
    # Twice as many as there are slots: the later ones wait for a slot, none is refused.
    answers = await asyncio.gather(*(repeat(async_client, word) for word in WORDS))
    assert answers == WORDS


async def test_a_client_that_leaves_frees_its_slot(
    corral: CorralProcess, async_client: AsyncOpenAI
) -> None:
    began = time.monotonic()
    await asyncio.gather(*(unread(async_client) for _ in range(SLOTS)))
    full = time.monotonic() - began
    streams = await asyncio.gather(*(endless(async_client) for _ in range(SLOTS)))
    waiting = asyncio.create_task(repeat(async_client, "amber"))
    await asyncio.sleep(full / 10)
    assert not waiting.done(), "a slot was free: this test shows nothing"
    for stream in streams:
        await stream.close()
    left = time.monotonic()
    assert await waiting == "amber"
    assert time.monotonic() - left < full / 2
    # The request for /metrics counts itself.
    wait_for("only this request in flight", 2, lambda: corral.metric("corral_in_flight") == 1)
