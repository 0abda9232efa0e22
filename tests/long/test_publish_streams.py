"""Adapters come and go on a real llama-server while long streams run: none is cut, none is wrong."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.corral_process import CorralProcess, wait_for

BUNDLED = Path(__file__).resolve().parents[2] / "models"
# A dropped adapter goes by the base that its header names.
BASE, ADAPTER = "corral-tiny", "resident"
STREAMS = 8
ROUNDS = 5
# Quiet, it is two or three; the bound is for machines that are not.
SERVED_WITHIN = 120
GONE_WITHIN = 120
# Without the cataloguing task's system prompt, which both have learned to answer alike at first.
PROMPT = (
    "For Vacancies in certain judgeships. Published in 1935 by Springer, Washington Subjects are "
    "Courts, Judges."
)
# Characters that tell the adapter's answer from its base's; further on, the order in which
# llama-server adds numbers up may change a word.
TOLD_APART_BY = 12


def body(model: str, **more: Any) -> dict[str, Any]:
    """The request that base and adapter answer differently."""
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24, **more}


class Client:
    """Asks over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ask(self, model: str) -> tuple[int, str]:
        """Status, and the beginning of the answer or the error's code."""
        async with self._session.post(self._url, json=body(model)) as answer:
            whole = await answer.json()
        if answer.status != 200:
            return answer.status, whole["error"]["code"]
        return answer.status, whole["choices"][0]["message"]["content"][:TOLD_APART_BY]

    async def stream(self, model: str) -> str:
        """A long stream to its end; how it began. It fails unless it is whole."""
        endless = body(model, stream=True, ignore_eos=True, max_tokens=600)
        async with self._session.post(self._url, json=endless) as answer:
            assert answer.status == 200, await answer.text()
            events = (await answer.text()).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""], events[-3:]
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert {chunk["model"] for chunk in chunks} == {model}
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)[:TOLD_APART_BY]

    async def until(self, model: str, want: int) -> float:
        """Wait until `model` is listed (200) or no longer (404); the seconds it took. Not by asking
        it: llama-server never puts two sets of adapters into one batch, so an answer of an adapter
        may have to wait for streams of its base to end."""
        began = time.monotonic()
        url = self._url.replace("/chat/completions", f"/models/{model}")
        while True:
            async with self._session.get(url) as answer:
                if answer.status == want:
                    return time.monotonic() - began
            assert time.monotonic() < began + SERVED_WITHIN, f"{model} still is {answer.status}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def eight_streams(client: Client, right: dict[str, str]) -> AsyncIterator[list[int]]:
    """Long streams one after the other, half of them the base's, half the adapter's, eight at any
    time, until the block ends; the number that each of the eight has had."""
    counts = [0] * STREAMS
    stopping = asyncio.Event()

    async def go_on(index: int, model: str) -> None:
        while not stopping.is_set():
            assert await client.stream(model) == right[model]
            counts[index] += 1

    models = (BASE, ADAPTER) * (STREAMS // 2)
    tasks = [asyncio.create_task(go_on(index, model)) for index, model in enumerate(models)]
    try:
        yield counts
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


def drop(folder: Path, name: str) -> Path:
    """Put a copy of the bundled adapter among the models, in one step."""
    shutil.copyfile(BUNDLED / "corral-tiny-folio.gguf", folder / f".{name}")
    return (folder / f".{name}").rename(folder / f"{name}.gguf")


def sections(corral: CorralProcess) -> list[str]:
    """Those of the base that the router lists."""
    listed = corral.get("/ready")[1]["sections"]
    return [name for name in listed if name.startswith(f"{BASE}@")]


async def test_adapters_come_and_go_during_eight_long_streams(tmp_path: Path) -> None:
    folder = tmp_path / "data/models"
    folder.mkdir(parents=True)
    drop(folder, ADAPTER)
    given = {"CORRAL_SLOTS": str(STREAMS + 2), "CORRAL_PRELOAD": BASE, "CORRAL_THREADS": "1"}
    with CorralProcess(tmp_path, environment=given) as corral:
        served, gone = [], []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            client = Client(session, corral.url + "/chat/completions")
            right = {name: (await client.ask(name))[1] for name in (BASE, ADAPTER)}
            assert right[BASE] != right[ADAPTER]
            async with eight_streams(client, right) as counts:
                for number in range(ROUNDS):
                    path = drop(folder, f"extra-{number}")
                    served.append(await client.until(path.stem, 200))
                    assert await client.ask(path.stem) == (200, right[ADAPTER])
                    path.unlink()
                    gone.append(await client.until(path.stem, 404))
                    assert await client.ask(path.stem) == (404, "model_not_found")
        print(f"served after {served} s, gone after {gone} s, streams {counts}")
        assert min(counts) >= 1
        # The router and one instance. `instances` tells them apart by the data directory in the
        # command line, which here is in both.
        wait_for("one instance is left", GONE_WITHIN, lambda: len(corral.llama_servers()) == 2)
        # On a busy machine the router strikes it out a moment after its end.
        wait_for("one section is left", GONE_WITHIN, lambda: len(sections(corral)) == 1)
        assert corral.get("/ready")[1]["problems"] == []
