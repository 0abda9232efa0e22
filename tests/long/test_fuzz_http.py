"""50,000 mutated requests to a running `corral serve` with keys: none is answered with a fault (5xx),
none hangs, the memory stays flat, and afterwards it answers rightly.

Seeded: CORRAL_LONG_SEED; how many: CORRAL_LONG_REQUESTS. llama-server is the fake, which takes whatever
comes: no 502 to 504 is to be expected either.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import aiohttp

from tests.fakes.served import chat, serve
from tests.long.http_mutants import Mutant, mutants

# Read as this module is imported: tests/conftest.py empties the environment for each test.
REQUESTS = int(os.environ.get("CORRAL_LONG_REQUESTS", "50000"))
SEED = int(os.environ.get("CORRAL_LONG_SEED", "1"))
KEY = "corral-test-key-of-an-administrator"
AT_ONCE = 16
# What a request may take: body_timeout below, and room for a busy machine.
WITHIN = 20.0
GROWTH = 1.05
SETTINGS = {
    "CORRAL_API_KEYS": KEY,
    "CORRAL_WORKER_COUNT": "0",
    "CORRAL_BODY_TIMEOUT": "2",
    "CORRAL_HEADER_TIMEOUT": "2",
    "CORRAL_MAX_BODY_BYTES": str(256 * 1024),
    "CORRAL_FILES_MAX_BYTES": str(64 * 1024),
    "CORRAL_LOG_LEVEL": "error",
}


class Campaign:
    """What was sent, and what came back."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []
        self.slowest = 0.0

    async def run(self, waiting: Iterator[Mutant]) -> None:
        """Send all of them, a few at once."""
        await asyncio.gather(*(self._sender(waiting) for _ in range(AT_ONCE)))

    async def _sender(self, waiting: Iterator[Mutant]) -> None:
        for mutant in waiting:
            began = time.monotonic()
            try:
                status = await asyncio.wait_for(self._send(mutant), WITHIN)
            except TimeoutError:
                status = "hang"
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[status] += 1
            if status == "hang" or status.startswith("5") or status == "nonsense":
                self.faults.append(f"{status}: {mutant.raw[:1500]!r}")

    async def _send(self, mutant: Mutant) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(mutant.raw)
            if mutant.leaves:
                await writer.drain()
                return "left"
            answer = await reader.read(64)
            if answer.startswith(b"HTTP/1.1 5"):
                answer += await reader.read()
            # True where it stands: the fake's `hello` is not the JSON that the request demands.
            return "unfit" if b'"invalid_structured_output"' in answer else _status(answer)
        except ConnectionError:
            return "closed"
        finally:
            writer.transport.abort()


def _status(answer: bytes) -> str:
    if not answer:
        return "closed"
    words = answer.split(b" ")
    good = words[0] in (b"HTTP/1.1", b"HTTP/1.0") and len(words) > 1 and words[1].isdigit()
    return words[1].decode() if good else "nonsense"


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def right(url: str) -> bool:
    """Whether a good request gets its answer."""

    async def ask() -> tuple[int, object]:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url + "/v1/chat/completions", json=chat(text="yes")) as answer,
        ):
            body = await answer.json()
            return answer.status, body["choices"][0]["message"]["content"]

    return asyncio.run(asyncio.wait_for(ask(), WITHIN)) == (200, "yes")


def test_fifty_thousand_mutated_requests(tmp_path: Path) -> None:
    with serve(tmp_path, **SETTINGS) as served:
        url = served.url
        assert right(url)
        campaign = Campaign(int(url.rpartition(":")[2]))
        waiting = mutants(SEED, REQUESTS, KEY)
        # The first tenth warms up what is kept: pools, compiled schemas, the allocator.
        asyncio.run(campaign.run(islice(waiting, REQUESTS // 10)))
        before, began = resident(served.process.pid), time.monotonic()
        asyncio.run(campaign.run(waiting))
        after = resident(served.process.pid)
        seconds = time.monotonic() - began
        print(
            f"\n{sum(campaign.statuses.values())} requests, the last nine tenths in {seconds:.0f} s"
        )
        print(*sorted(campaign.statuses.items()), sep="\n")
        print(f"slowest {campaign.slowest:.1f} s; memory {before >> 20} -> {after >> 20} MiB")
        assert not campaign.faults, "\n".join(campaign.faults[:20])
        assert served.process.poll() is None
        assert right(url)
        assert after < before * GROWTH
        at = served.stderr.find("Traceback")
        assert at < 0, served.stderr[max(0, at - 500) : at + 5000]
