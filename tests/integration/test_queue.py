"""The line before a model's slots, over the fake llama-server."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.served import Served, ask, ask_stream, chat, serve, wait_for

ONE = {"CORRAL_SLOTS": "1", "CORRAL_QUEUE_SIZE": "1"}


async def begun(served: Served, count: int) -> None:
    await asyncio.to_thread(
        wait_for, lambda: served.llama_log.count("stream begins") == count, f"{count} streams run"
    )


async def refusal(served: Served) -> tuple[str, dict[str, str]]:
    """Ask until the line is full; the error's code and the headers."""
    async with aiohttp.ClientSession() as session:
        while True:
            url = served.url + "/v1/chat/completions"
            async with session.post(url, json=chat()) as answer:
                body = await answer.json()
                assert answer.status == 429, body
                return body["error"]["code"], {k.lower(): v for k, v in answer.headers.items()}


async def test_one_runs_one_waits_and_the_next_is_refused(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    with serve(tmp_path, **ONE) as served:
        body = chat(stream=True, until=str(stop), delay=0.01)
        running = asyncio.create_task(ask_stream(served.url, body))
        await begun(served, 1)
        waiting = asyncio.create_task(ask(served.url, chat("tuned")))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        code, headers = await refusal(served)
        assert code == "queue_full"
        assert int(headers["retry-after"]) >= 1
        assert headers["x-ratelimit-limit-requests"] == "2"
        status, tokens = await ask(served.url, {"content": "x"}, "/tokenize")
        assert status == 200, tokens
        stop.touch()
        assert (await running)[-1] == "[DONE]"
        assert (await waiting)[0] == 200


@pytest.mark.parametrize("goes", ["running", "waiting"])
async def test_a_client_that_goes_away_leaves_its_place_to_the_next(
    tmp_path: Path, goes: str
) -> None:
    stop = tmp_path / "stop"
    with serve(tmp_path, **ONE) as served:
        body = chat(stream=True, until=str(stop), delay=0.01)
        running = asyncio.create_task(ask_stream(served.url, body))
        await begun(served, 1)
        waiting = asyncio.create_task(ask(served.url, chat("tuned")))
        await asyncio.wait({waiting}, timeout=0.3)
        leaver = running if goes == "running" else waiting
        leaver.cancel()
        await asyncio.wait({leaver})
        if goes == "waiting":
            third = asyncio.create_task(ask(served.url, chat()))
            done, _ = await asyncio.wait({third}, timeout=0.5)
            assert not done, "it got the place of the one that went"
            stop.touch()
            assert (await third)[0] == 200
        else:
            assert (await waiting)[0] == 200


async def test_models_of_one_base_ask_for_slots_of_their_own(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        seen = []
        for model in ("tiny", "tuned", "tiny", "tuned", "other"):
            status, answer = await ask(served.url, chat(model))
            assert status == 200, answer
            seen.append(answer["received"].get("id_slot"))
        assert seen[:2] == seen[2:4]
        assert None not in seen[:2]
        assert len(set(seen[:2])) == 2
        assert seen[4] is None, "it has no adapters"
        for own in ({"id_slot": 1}, {"n": 2}):
            _, answer = await ask(served.url, chat("tuned") | own)
            assert answer["received"].get("id_slot") == own.get("id_slot")
