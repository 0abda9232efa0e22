"""Requests go straight to a section's own instance; which instance makes room is decided by use."""

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.gguf_file import write_model
from tests.fakes.served import Served, ask, ask_stream, chat, serve, wait_for


@pytest.mark.parametrize(("flags", "routed"), [((), False), (("--no-ports",), True)])
async def test_straight_to_the_instance_where_its_port_is_told(
    tmp_path: Path, flags: tuple[str, ...], routed: bool
) -> None:
    with serve(tmp_path, *flags) as served:
        for model in ("tiny", "tuned", "other"):
            status, answer = await ask(served.url, chat(model))
            assert (status, answer["file"], answer["routed"]) == (200, model, routed)


def begins(served: Served, count: int) -> None:
    wait_for(lambda: served.llama_log.count("stream begins") == count, f"{count} streams run")


async def test_a_model_in_use_does_not_make_room(tmp_path: Path) -> None:
    """The router takes it for idle: left to itself it would cut the stream."""
    stop = tmp_path / "stop"
    with serve(tmp_path, CORRAL_MODELS_MAX="1") as served:
        body = chat("tuned", stream=True, until=str(stop), delay=0.01)
        stream = asyncio.create_task(ask_stream(served.url, body))
        await asyncio.to_thread(begins, served, 1)
        other = asyncio.create_task(ask(served.url, chat("other")))
        done, _ = await asyncio.wait({stream, other}, timeout=1.0)
        assert not done, "the other model waits"
        stop.touch()
        events = await stream
        assert events[-1] == "[DONE]", "the stream is whole"
        assert {event["file"] for event in events[:-1]} == {"tuned"}
        assert (await other)[1]["file"] == "other"
        assert served.llama_log.index("unloaded tiny@1") < served.llama_log.index("loaded other@1")


async def test_the_least_recently_used_idle_model_makes_room(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_MODELS_MAX="2") as served:
        assert served.url
        write_model(served.data_dir / "models/third.gguf")
        for model in ("other", "tiny"):
            assert (await ask(served.url, chat(model)))[0] == 200
        assert await until_known(served, "third") == "third"
        assert "unloaded other@1" in served.llama_log
        assert "unloaded tiny@1" not in served.llama_log


async def until_known(served: Served, model: str) -> Any:
    while (got := await ask(served.url, chat(model)))[0] == 404:
        await asyncio.sleep(0.05)
    return got[1]["file"]


async def test_a_model_that_does_not_load_is_told(tmp_path: Path) -> None:
    with serve(tmp_path, "--fail-load", "other@1") as served:
        status, answer = await ask(served.url, chat("other"))
        assert (status, answer["error"]["code"]) == (502, "model_load_failed")
        assert "other@1" in answer["error"]["message"]
        assert (await ask(served.url, chat("tiny")))[0] == 200


async def test_requests_during_a_load_wait_for_it(tmp_path: Path) -> None:
    with serve(tmp_path, "--slow-load", "0.5") as served:
        answers = await asyncio.gather(*(ask(served.url, chat("other")) for _ in range(8)))
        assert [status for status, _ in answers] == [200] * 8
        assert served.llama_log.count("loaded other@1") == 1, "it is loaded once"


async def test_a_load_that_takes_too_long_is_503_and_says_so(tmp_path: Path) -> None:
    with serve(tmp_path, "--slow-load", "3", CORRAL_LOAD_TIMEOUT="1", CORRAL_PRELOAD="") as served:
        status, answer = await ask(served.url, chat("other"))
        assert (status, answer["error"]["code"]) == (503, "not_ready")
        assert "`other@1` is loading" in answer["error"]["message"]


async def test_a_load_that_takes_too_long_is_told_with_how_far_it_is(tmp_path: Path) -> None:
    with serve(tmp_path, "--slow-load", "6", CORRAL_LOAD_TIMEOUT="3") as served:
        body = chat("other")
        async with (
            aiohttp.ClientSession() as session,
            session.post(served.url + "/v1/chat/completions", json=body) as answer,
        ):
            told = (await answer.json())["error"]
            wait = int(answer.headers["Retry-After"])
        assert (answer.status, told["code"]) == (503, "not_ready")
        found = re.search(
            r"`other@1` is loading, (\d+)% of it read; try again in (\d+) s", told["message"]
        )
        assert found, told["message"]
        assert 0 < int(found[1]) < 100
        assert wait == int(found[2])
