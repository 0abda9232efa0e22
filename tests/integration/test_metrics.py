"""/metrics of a running Corral, over the fake llama-server that tells usage and timings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.served import Served, ask, ask_stream, chat, serve, wait_for

USAGE = {"prompt_tokens": 10, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4}}
TIMINGS = {
    "cache_n": 4,
    "prompt_n": 6,
    "prompt_ms": 100.0,
    "predicted_n": 6,
    "predicted_ms": 2000.0,
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path, CORRAL_SLOTS="2", CORRAL_QUEUE_SIZE="1") as made:
        yield made


async def metric(served: Served, name: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels."""
    async with aiohttp.ClientSession() as session, session.get(served.url + "/metrics") as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_tokens_of_plain_answers_and_of_streams(served: Served) -> None:
    whole = await ask(served.url, chat("gpt-4o", last={"usage": USAGE, "timings": TIMINGS}))
    assert whole[1]["usage"] == USAGE
    events = await ask_stream(served.url, chat("gpt-4o", stream=True, last={"timings": TIMINGS}))
    assert events[-2]["timings"] == TIMINGS
    assert "usage" not in events[-2]
    for name, tokens in (("prompt", 20), ("cached", 8), ("generated", 12)):
        assert await metric(served, f"corral_{name}_tokens_total", model="tuned") == tokens
    assert await metric(served, "corral_generated_tokens_per_second_sum", model="tuned") == 6
    assert await metric(served, "corral_queue_seconds_count", model="tuned") == 2
    assert await metric(served, "corral_time_to_first_byte_seconds_count", model="tuned") == 2
    assert '"generated_tokens": 6' in served.stderr


async def test_a_stream_that_the_client_leaves_counts_what_came(
    served: Served, tmp_path: Path
) -> None:
    body = chat(stream=True, until=str(tmp_path / "never"), delay=0.05)
    async with (
        aiohttp.ClientSession() as session,
        session.post(served.url + "/v1/chat/completions", json=body) as answer,
    ):
        for _ in range(3):
            await answer.content.readuntil(b"\n\n")
    await asyncio.to_thread(wait_for, lambda: "client_gone" in served.stderr, "it was noticed")
    assert 3 <= await metric(served, "corral_generated_tokens_total", model="tiny") < 20
    assert await metric(served, "corral_prompt_tokens_total", model="tiny") == 0


async def test_slots_queue_and_refusals(served: Served, tmp_path: Path) -> None:
    until = tmp_path / "enough"
    body = chat(stream=True, until=str(until), delay=0.05)
    streams = [asyncio.create_task(ask_stream(served.url, body)) for _ in range(3)]
    while await metric(served, "corral_waiting", model="tiny") < 1:
        await asyncio.sleep(0.05)
    refused = await ask(served.url, chat())
    assert (refused[0], refused[1]["error"]["code"]) == (429, "queue_full")
    expected: list[tuple[str, dict[str, Any], float]] = [
        ("corral_running", {"model": "tiny"}, 2),
        ("corral_slots", {"section": "tiny@1"}, 2),
        ("corral_slots_busy", {"section": "tiny@1"}, 2),
        ("corral_refused_total", {"model": "tiny", "code": "queue_full"}, 1),
        ("corral_instances", {"state": "loaded"}, 1),
    ]
    for name, labels, value in expected:
        assert await metric(served, name, **labels) == value, name
    until.touch()
    await asyncio.gather(*streams)
    assert await metric(served, "corral_slots_busy") == 0
    assert await metric(served, "corral_queue_seconds_sum", model="tiny") > 0
