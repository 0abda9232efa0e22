"""`corral serve` when things die: nothing hangs, nothing is left behind, the next request works."""

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.fakes.served import Served, ask, ask_stream, chat, family, is_alive, serve, wait_for

STREAMS = 8


async def begun(served: Served, tokens: int = 400) -> list[asyncio.Task[list[object]]]:
    """Streams that have all had their first token: 20 ms per token."""
    before = served.llama_log.count("stream begins")
    tasks = [
        asyncio.create_task(ask_stream(served.url, chat(stream=True, tokens=tokens, delay=0.02)))
        for _ in range(STREAMS)
    ]
    while served.llama_log.count("stream begins") < before + STREAMS:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return tasks


async def test_killed_llama_server_ends_streams_with_an_error_and_comes_back(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, CORRAL_SLOTS=str(STREAMS)) as served:
        tasks = await begun(served)
        descendants = family(served.router)
        os.kill(served.router, signal.SIGKILL)
        killed = time.monotonic()
        for events in await asyncio.gather(*tasks):
            assert len(events) > 1
            assert events[-1]["error"]["code"] == "upstream_failed"  # type: ignore[index]
        status, answer = await ask(served.url, chat())
        assert (status, answer["model"]) == (200, "tiny")
        assert time.monotonic() - killed < 5
        wait_for(lambda: not any(map(is_alive, descendants)), "its instances are gone")
        assert '"phase": "restarting"' in served.stderr


async def test_a_request_that_kills_llama_server_fails_and_the_next_works(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        for _ in range(2):
            status, answer = await ask(served.url, chat(kill=True))
            assert (status, answer["error"]["code"]) == (502, "upstream_failed")
            assert (await ask(served.url, chat()))[0] == 200


async def test_llama_server_that_ends_at_once_is_retried_and_reported(tmp_path: Path) -> None:
    with serve(tmp_path, "--exit-at-start", "3", CORRAL_LOAD_TIMEOUT="0.2") as served:
        wait_for(lambda: served.stderr.count("ended with status 3") >= 3, "it is retried")
        assert "Corral serves" not in served.stderr


async def test_a_preloaded_model_that_does_not_load_is_named(tmp_path: Path) -> None:
    with serve(tmp_path, "--fail-load", "tiny@1") as served:
        wait_for(lambda: "`tiny@1` failed to load" in served.stderr, "the failure is told")
        assert served.process.poll() is None


async def test_kill_9_of_corral_leaves_no_llama_server(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_SLOTS=str(STREAMS)) as served:
        tasks = await begun(served)
        descendants = family(served.process.pid)
        assert len(descendants) >= 2  # the router and an instance
        served.signal(signal.SIGKILL)
        await asyncio.gather(*tasks, return_exceptions=True)
        wait_for(lambda: not any(map(is_alive, descendants)), "every descendant is gone", 5)


async def test_a_stop_ends_streams_with_an_error_event(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_SLOTS=str(STREAMS)) as served:
        tasks = await begun(served)
        descendants = family(served.process.pid)
        served.signal(signal.SIGTERM)
        for events in await asyncio.gather(*tasks):
            assert "Corral is stopping" in events[-1]["error"]["message"]  # type: ignore[index]
        assert served.ended(5) == 0
        assert not any(map(is_alive, descendants))
        assert "Traceback" not in served.stderr


async def test_a_stop_lets_short_requests_finish(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_SLOTS=str(STREAMS)) as served:
        tasks = await begun(served, tokens=25)
        served.signal(signal.SIGTERM)
        for events in await asyncio.gather(*tasks):
            assert events[-1] == "[DONE]"
            assert len(events) == 26


async def test_ctrl_c_kills_a_llama_server_that_ignores_sigterm(tmp_path: Path) -> None:
    with serve(tmp_path, "--ignore-sigterm") as served:
        assert (await ask(served.url, chat()))[0] == 200
        descendants = family(served.process.pid)
        served.signal(signal.SIGINT)
        assert served.ended(8) == 0
        assert not any(map(is_alive, descendants))


async def test_a_crash_in_the_middle_of_many_requests_loses_only_those_in_flight(
    tmp_path: Path,
) -> None:
    """Each restart is slow, so that requests must wait for it."""
    with serve(tmp_path, "--crash-after", "30", "--slow-start", "0.5") as served:
        statuses = [(await ask(served.url, chat()))[0] for _ in range(40)]
    assert statuses.count(502) == 1
    assert statuses.count(200) == 39
