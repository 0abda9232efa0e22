"""Three adapters over one base, four streams each, more than the slots: nobody waits for ever.

    python -m pytest tests/long/test_adapter_turns.py -s

Prints the time to the first token per adapter. llama-server alone lets an adapter wait as long as
another one is asked for again in time: with the line of Corral each has its turn.
"""

import asyncio
import random
import statistics
import time
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.corral_process import CorralProcess

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ("one", "two", "three")
STREAMS_EACH = 4
SECONDS = 20
# Of different lengths, and a slot for each stream: then some slot of the first adapter is always at
# work, and llama-server alone never comes to the others.
LENGTHS = (16, 64, 200)
SLOTS = len(ADAPTERS) * STREAMS_EACH
# A turn of each of the other two, each with the streams under way at its end, on a busy machine.
LONGEST = 10.0

pytestmark = pytest.mark.long


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The data directory of a Corral with three adapters of the bundled base, all the same weights."""
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    for name in ADAPTERS:
        (folder / f"{name}.gguf").write_bytes((ROOT / "models/corral-tiny-folio.gguf").read_bytes())
    return tmp_path


async def first_tokens(url: str, model: str, seed: int, end: float) -> list[float]:
    """The seconds to the first token of stream after stream, until `end`."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell of the herd."}],
        "max_tokens": LENGTHS[0],
        "ignore_eos": True,
        "stream": True,
    }
    found, dice = [], random.Random(seed)
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            body["max_tokens"] = dice.choice(LENGTHS)
            began = time.monotonic()
            async with session.post(url + "/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                text = await answer.content.readany()
                found.append(time.monotonic() - began)
                text += await answer.read()
                assert text.endswith(b"data: [DONE]\n\n"), text[-300:]
    return found


async def measure(url: str) -> dict[str, list[float]]:
    """Every stream at once; the first-token times per adapter."""
    end = time.monotonic() + SECONDS
    tasks = [
        (name, asyncio.create_task(first_tokens(url, name, seed, end)))
        for name in ADAPTERS
        for seed in range(STREAMS_EACH)
    ]
    found: dict[str, list[float]] = {name: [] for name in ADAPTERS}
    for name, task in tasks:
        found[name] += await task
    return found


async def test_no_adapter_starves(models: Path) -> None:
    with CorralProcess(models, environment={"CORRAL_SLOTS": str(SLOTS)}) as corral:
        found = await measure(corral.url)
    for name, seconds in found.items():
        last = sorted(seconds)[int(len(seconds) * 0.99)]
        print(
            f"{name}: {len(seconds)} streams, first token p50 {statistics.median(seconds):.2f} s, p99 {last:.2f} s"
        )
    counts = [len(seconds) for seconds in found.values()]
    assert max(max(seconds) for seconds in found.values()) < LONGEST
    assert min(counts) > 0.5 * max(counts), f"shares are unfair: {counts}"
