"""Eight adapters over one base of about 150 M parameters: what they add to memory, and that each answers as itself.

    python -m pytest tests/long/test_many_adapters.py -s

Prints the proportional set size of every llama-server process, with the base alone and with eight adapters, and how many answers
were compared while one more adapter came and one went. Random weights: made here, in a minute.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import random_adapter
import random_model
from tests.e2e.corral_process import CorralProcess, wait_for

BASE = "random"
PARAMETERS = 150_000_000
COUNT = 8
ADAPTERS = tuple(f"adapter-{number}" for number in range(COUNT))
MORE = "adapter-more"
RANK = 16
# Beyond the adapters' own size: the bar.
SHARE, EXTRA = 0.10, 16 * 1024**2
TOKENS = 8
PATIENCE = 600

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base and nine adapters."""
    folder = tmp_path_factory.mktemp("weights")
    base = folder / f"{BASE}.gguf"
    random_model.write(base, PARAMETERS, seed=1, kind="f16", tokenizer=random_model.BUNDLED)
    for seed, name in enumerate((*ADAPTERS, MORE)):
        random_adapter.write(folder / f"{name}.gguf", base, seed=seed, rank=RANK, base=BASE)
    return folder


@pytest.fixture
def corral(weights: Path, tmp_path: Path) -> Iterator[CorralProcess]:
    """A Corral that serves the base alone."""
    drop(weights, tmp_path / "data", BASE)
    environment = {
        "CORRAL_BUNDLED_MODELS_DIR": str(tmp_path / "none"),
        "CORRAL_DEFAULT_MODEL": BASE,
        "CORRAL_PRELOAD": BASE,
        "CORRAL_CTX_SIZE": "2048",
        # Beside other work, threads that wait for each other would take minutes for an answer.
        "CORRAL_THREADS": "1",
    }
    with CorralProcess(tmp_path, environment=environment) as process:
        yield process


def drop(weights: Path, data_dir: Path, name: str) -> Path:
    """Put a model among those that are served, in one step."""
    folder = data_dir / "models"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}"
    part.write_bytes((weights / f"{name}.gguf").read_bytes())
    return part.rename(folder / f"{name}.gguf")


class Client:
    """Asks, and remembers what each model answers when it is alone."""

    def __init__(self, session: aiohttp.ClientSession, corral: CorralProcess) -> None:
        self._session, self._corral = session, corral
        self.right: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    async def ask(self, model: str) -> str:
        """The answer, greedily."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Tell of the herd."}],
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0,
        }
        url = self._corral.url + "/chat/completions"
        async with self._session.post(url, json=body) as answer:
            text = await answer.text()
            assert answer.status == 200, (model, text)
        return str(json.loads(text)["choices"][0]["message"]["content"])

    async def learn(self, *models: str) -> None:
        """Ask each by itself."""
        for model in models:
            self.right[model] = await self.ask(model)

    async def check(self, model: str) -> None:
        """Ask it among others."""
        answer = await self.ask(model)
        assert answer == self.right[model], (model, answer, self.right)
        self.counts[model] += 1

    async def fill(self, *models: str) -> None:
        """Use every slot, so that memory is what it will be."""
        await asyncio.gather(*(self.ask(model) for model in models for _ in range(4)))


def memory(corral: CorralProcess) -> int:
    """Proportional set size of every llama-server process, in bytes, once one instance is left."""
    # The router and one.
    wait_for("old instances are gone", PATIENCE, lambda: len(corral.llama_servers()) == 2)
    return sum(pss(pid) for pid in corral.llama_servers())


def pss(pid: int) -> int:
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found
    return int(found[1]) * 1024


async def test_eight_adapters_over_one_base(weights: Path, corral: CorralProcess) -> None:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        client = Client(session, corral)
        await client.learn(BASE)
        await client.fill(BASE)
        alone = memory(corral)
        print(f"base alone: {alone / 2**20:.1f} MiB", flush=True)
        size = sum((weights / f"{name}.gguf").stat().st_size for name in ADAPTERS)
        bar = int(size * (1 + SHARE)) + EXTRA

        for name in ADAPTERS:
            drop(weights, corral.data_dir, name)
        await client.learn(*ADAPTERS)
        await client.learn(BASE)
        assert len(set(client.right.values())) == COUNT + 1, client.right
        await client.fill(*ADAPTERS[:2])
        with_adapters = memory(corral)
        tell("eight adapters", alone, with_adapters, size, bar)

        await interleave(client, weights, corral)
        after = memory(corral)
        tell("after one more came and went", alone, after, size, bar)
    assert with_adapters - alone <= bar
    assert after - alone <= bar


async def interleave(client: Client, weights: Path, corral: CorralProcess) -> None:
    """Every model at once, again and again, while one adapter is published and then deleted: each
    answer is that model's own and none is dropped."""
    stopping = asyncio.Event()

    async def go_on(model: str) -> None:
        while not stopping.is_set():
            await client.check(model)

    tasks = [asyncio.create_task(go_on(model)) for model in (BASE, *ADAPTERS)]
    try:
        path = drop(weights, corral.data_dir, MORE)
        began = time.monotonic()
        await client.learn(MORE)
        print(f"the first answer of one more took {time.monotonic() - began:.1f} s")
        assert client.right[MORE] not in [client.right[m] for m in (BASE, *ADAPTERS)]
        for _ in range(2):
            await client.check(MORE)
        path.unlink()
        began_with = dict(client.counts)
        while any(client.counts[m] < began_with.get(m, 0) + 2 for m in (BASE, *ADAPTERS)):
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.2)
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
    print(f"answers compared: {dict(sorted(client.counts.items()))}")


def tell(what: str, alone: int, now: int, size: int, bar: int) -> None:
    figures: dict[str, Any] = {
        "base alone": alone, "now": now, "added": now - alone, "adapters' size": size, "bar": bar
    }  # fmt: skip
    print(f"{what}: " + ", ".join(f"{k} {v / 2**20:.1f} MiB" for k, v in figures.items()))
