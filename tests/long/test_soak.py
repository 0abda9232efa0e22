"""Four times more clients than slots, of four keys, one of them greedy: no error but 429, fair shares, flat
memory, a bounded wait for whoever was let in.

Minutes by CORRAL_LONG_MINUTES (10). llama-server is the fake: each answer takes TAKES seconds, so that
the slots, and nothing else, are what is scarce.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.fakes.served import chat, serve
from tests.long.test_fuzz_http import resident

# Read as this module is imported: tests/conftest.py empties the environment for each test.
MINUTES = float(os.environ.get("CORRAL_LONG_MINUTES", "10"))
SLOTS = 8
# Short: the greedy key alone would fill it.
QUEUE = 8
TAKES = 0.04
# Clients of each key; together four times the slots. Turns go by key, so all get the same.
CLIENTS = {"ant": 5, "bee": 5, "cat": 5, "dog": 17}
SECRETS = {name: f"corral-test-key-of-{name}" for name in CLIENTS}
WARM_UP = 0.1
GROWTH = 1.05
UNFAIR = 0.10
# Of the admitted: everybody before it in a full queue, twice, and a busy machine's second.
P99 = 2 * TAKES * (QUEUE / SLOTS + 1) + 1.0


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


NUMBERS = itertools.count()


async def client(url: str, key: str, until: float, tally: Tally) -> None:
    """Ask, one request after the other, each second one a stream; wait a little after a 429."""
    headers = {"Authorization": f"Bearer {SECRETS[key]}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while time.monotonic() < until:
            await once(session, url, key, tally)


async def once(session: aiohttp.ClientSession, url: str, key: str, tally: Tally) -> None:
    number = next(NUMBERS)
    said = f"{key}-{number}"
    stream = number % 2 == 0
    body = chat(stream=stream, text=said, tokens=2, delay=TAKES / 2 if stream else TAKES)
    began = time.monotonic()
    async with session.post(url + "/v1/chat/completions", json=body) as answer:
        text = await answer.text()
    tally.statuses[answer.status] += 1
    if answer.status == 200:
        tally.seconds.append(time.monotonic() - began)
        tally.served[key] += 1
        if text.count(f'"{said}"') < 1 + stream or (stream and "[DONE]" not in text):
            tally.wrong.append(text[:300])
    elif answer.status == 429:
        if int(answer.headers["Retry-After"]) < 1:
            tally.wrong.append("429 without a time to come back")
        await asyncio.sleep(TAKES)


async def campaign(url: str, seconds: float) -> Tally:
    """All clients at once for so long."""
    tally, until = Tally(), time.monotonic() + seconds
    each = [(key, number) for key, count in CLIENTS.items() for number in range(count)]
    await asyncio.gather(*(client(url, key, until, tally) for key, _ in each))
    return tally


def test_four_times_more_clients_than_slots(tmp_path: Path) -> None:
    settings = {
        "CORRAL_API_KEYS": ",".join(SECRETS.values()),
        "CORRAL_SLOTS": str(SLOTS),
        "CORRAL_QUEUE_SIZE": str(QUEUE),
        "CORRAL_LOG_LEVEL": "error",
    }
    with serve(tmp_path, **settings) as served:
        url = served.url
        asyncio.run(campaign(url, max(10.0, MINUTES * 60 * WARM_UP)))
        before = resident(served.process.pid)
        tally = asyncio.run(campaign(url, MINUTES * 60))
        after = resident(served.process.pid)
    waits = sorted(tally.seconds)
    p50, p99 = (waits[int(len(waits) * share)] for share in (0.5, 0.99))
    shares = {key: tally.served[key] / len(waits) * len(CLIENTS) for key in CLIENTS}
    print(f"\n{dict(tally.statuses)} in {MINUTES:g} min; p50 {p50:.3f} s, p99 {p99:.3f} s")
    print(f"shares { ({key: round(share, 3) for key, share in shares.items()}) }")
    print(f"memory {before / 2**20:.1f} -> {after / 2**20:.1f} MiB over {len(waits)} answers")
    assert set(tally.statuses) <= {200, 429}
    assert not tally.wrong, tally.wrong[:3]
    assert all(abs(share - 1) <= UNFAIR for share in shares.values())
    assert p99 <= P99
    growth = (after / before - 1) * 20_000 / max(20_000, sum(tally.statuses.values()))
    assert growth <= GROWTH - 1
