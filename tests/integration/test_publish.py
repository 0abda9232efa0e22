"""Publishing without a restart, over the fake llama-server: what is served follows the files."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.gguf_file import write_adapter, write_model
from tests.fakes.served import Served, ask, chat, serve, wait_for

SECONDS = 10.0


@contextmanager
def running(root: Path, *flags: str, **variables: str) -> Iterator[Served]:
    """`serve`, once it answers: a file that comes earlier would be found by the first look."""
    with serve(root, *flags, **variables) as served:
        assert served.url
        yield served


async def get(served: Served, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(served.url + path) as answer:
        return answer.status, await answer.json()


async def until(served: Served, name: str, status: int) -> float:
    """Ask `name` until it answers with `status`; the seconds it took. Any other answer than the
    one before and the one after the switch fails."""
    began = time.monotonic()
    while True:
        got, answer = await ask(served.url, chat(name))
        assert got in (200, 404), answer
        if got == status:
            return time.monotonic() - began
        assert time.monotonic() < began + SECONDS, f"{name} does not answer {status}: {answer}"
        await asyncio.sleep(0.05)


def listed(served: Served) -> set[str]:
    """The sections that the router lists: as of its last reload."""
    lines = [line for line in served.llama_log.splitlines() if line.startswith("listed ")]
    return set(lines[-1].split()[1:]) if lines else set()


def drop(served: Served, name: str, base: str = "tiny") -> Path:
    """Put an adapter into the folder as `mv` does: whole."""
    part = write_adapter(served.data_dir / f"{name}.part", base)
    return part.rename(served.data_dir / "models" / f"{name}.gguf")


class Stream:
    """A stream that goes on until `end`."""

    def __init__(self, task: "asyncio.Task[list[Any]]", stop: Path) -> None:
        self._task, self._stop = task, stop

    async def end(self) -> set[tuple[str, str]]:
        """Let it end; the file and the model that its events name. It fails unless it is whole."""
        assert not self._task.done(), "the stream has ended by itself"
        self._stop.touch()
        return {(event["file"], event["model"]) for event in await self._task}


@asynccontextmanager
async def stream(served: Served, name: str) -> AsyncIterator[Stream]:
    """A stream of `name` that has begun: 50 ms per token."""
    before = served.llama_log.count("stream begins")
    stop = served.data_dir / "stop"
    body = chat(name, stream=True, until=str(stop), delay=0.05)

    async def read() -> list[Any]:
        async with aiohttp.ClientSession() as session:
            url = served.url + "/v1/chat/completions"
            async with session.post(url, json=body) as answer:
                text = (await answer.read()).decode()
        events = [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]]
        assert events[-1] == "[DONE]", events[-1]
        return [json.loads(event) for event in events[:-1]]

    task = asyncio.create_task(read())
    while served.llama_log.count("stream begins") == before:
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    try:
        yield Stream(task, stop)
    finally:
        task.cancel()


async def test_an_adapter_appears_and_goes_and_streams_finish_where_they_began(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as served:
        async with stream(served, "tuned") as first:
            path = drop(served, "fresh")
            assert await until(served, "fresh", 200) < SECONDS
            _, answer = await ask(served.url, chat("fresh"))
            assert (answer["file"], answer["adapters"]) == ("fresh", ["fresh", "tuned"])
            _, answer = await ask(served.url, chat("tiny"))
            assert answer["file"] == "tiny"
            assert listed(served) == {"tiny@1", "tiny@2", "other@1"}
            assert await first.end() == {("tuned", "tuned")}
        wait_for(lambda: listed(served) == {"tiny@2", "other@1"}, "the old section is unloaded")

        path.unlink()
        await until(served, "fresh", 404)
        _, answer = await ask(served.url, chat("tuned"))
        assert (answer["file"], answer["adapters"]) == ("tuned", ["tuned"])
        wait_for(lambda: listed(served) == {"tiny@3", "other@1"}, "and so is the next")
        assert served.llama_log.count("loaded other") == 0, "another base was touched"


async def test_the_first_request_for_a_new_adapter_waits_and_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, "--slow-load", "0.5") as served:
        drop(served, "first")
        status, answer = await get(served, "/v1/models/first")
        assert (status, answer["id"]) == (200, "first")
        drop(served, "second")
        began = time.monotonic()
        status, answer = await ask(served.url, chat("openai/second"))
        print(f"the first request took {time.monotonic() - began:.2f} s")
        assert (status, answer["file"]) == (200, "second")


async def test_an_unknown_name_is_told_at_once_also_while_another_model_is_loaded(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--slow-load", "3") as served:
        drop(served, "fresh")
        waiting = asyncio.create_task(ask(served.url, chat("fresh")))
        wait_for(lambda: "loaded tiny@2" in served.llama_log, "it is being loaded")
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(served.url, chat("typo")) for _ in range(20)))
        assert time.monotonic() - began < 2
        assert {status for status, _ in answers} == {404}
        assert not waiting.done()
        assert (await waiting)[0] == 200


async def test_a_new_base_is_listed_and_loaded_by_its_first_request(tmp_path: Path) -> None:
    with running(tmp_path) as served:
        write_model(served.data_dir / "models/third.gguf")
        wait_for(lambda: "third@1" in listed(served), "it is listed")
        assert "loaded third@1" not in served.llama_log
        await until(served, "third", 200)
        (served.data_dir / "models/third.gguf").unlink()
        await until(served, "third", 404)
        wait_for(lambda: "third@1" not in listed(served), "it is gone")
        write_model(served.data_dir / "models/third.gguf")
        await until(served, "third", 200)
        assert "third@2" in listed(served), "a generation is never used twice"


async def test_what_does_not_load_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "--fail-file", "/bad") as served:
        drop(served, "bad")
        drop(served, "good")
        await until(served, "good", 200)
        _, answer = await ask(served.url, chat("good"))
        assert answer["adapters"] == ["good", "tuned"]
        status, answer = await ask(served.url, chat("bad"))
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert "llama-server did not load" in answer["error"]["message"]
        _, ready = await get(served, "/ready")
        assert [problem["name"] for problem in ready["problems"]] == ["bad"]
        assert "not published" in served.stderr
        assert problems_of_models_ls(served) == ["bad"]
        attempts = served.llama_log.count("failed ")
        await asyncio.sleep(2.5)
        assert served.llama_log.count("failed ") == attempts, "it is tried again with no change"
        (served.data_dir / "models/bad.gguf").unlink()
        wait_for(lambda: problems_of_models_ls(served) == [], "the problem is gone")


def problems_of_models_ls(served: Served) -> list[str]:
    """What another process on this machine is told."""
    environment = {
        **os.environ,
        "CORRAL_DATA": str(served.data_dir),
        "CORRAL_BUNDLED_MODELS_DIR": str(served.data_dir / "none"),
    }
    argv = [sys.executable, "-m", "corral", "models", "ls", "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    return [problem["name"] for problem in json.loads(done.stdout)["problems"]]


async def test_a_base_replaced_by_one_that_does_not_load_goes_on_as_it_was(tmp_path: Path) -> None:
    with running(tmp_path, "--fail-load", "tiny@2", "--fail-load", "tiny@3") as served:
        await until(served, "tuned", 200)
        write_model(served.data_dir / "tiny.part", {"general.name": "another"}).replace(
            served.data_dir / "models/tiny.gguf"
        )
        wait_for(lambda: "not published" in served.stderr, "the failure is told")
        for name in ("tiny", "tuned"):
            status, answer = await ask(served.url, chat(name))
            assert (status, answer["file"]) == (200, name)
        assert served.llama_log.count("loaded tiny@1") == 1


async def test_a_broken_adapter_at_the_start_does_not_take_its_base_down(tmp_path: Path) -> None:
    write_adapter(tmp_path / "data/models/bad.gguf", "tiny")
    with running(tmp_path, "--fail-file", "/bad") as served:
        wait_for(lambda: "tiny@1" not in listed(served) and listed(served), "it is put right")
        for name in ("tiny", "tuned"):
            status, answer = await ask(served.url, chat(name))
            assert (status, answer["file"], answer["adapters"]) == (200, name, ["tuned"])
        assert (await ask(served.url, chat("bad")))[0] == 404


async def test_two_quick_changes(tmp_path: Path) -> None:
    with running(tmp_path, "--slow-load", "0.8") as served:
        drop(served, "first")
        wait_for(lambda: "loaded tiny@2" in served.llama_log, "the first switch has begun")
        drop(served, "second")
        (served.data_dir / "models/first.gguf").unlink()
        await until(served, "second", 200)
        await until(served, "first", 404)
        wait_for(lambda: listed(served) == {"tiny@3", "other@1"}, "nothing is left over")


async def test_the_router_killed_during_a_switch(tmp_path: Path) -> None:
    with running(tmp_path, "--slow-load", "1.5") as served:
        drop(served, "fresh")
        wait_for(lambda: "loaded tiny@2" in served.llama_log, "the switch has begun")
        os.kill(served.router, signal.SIGKILL)
        wait_for(lambda: '"phase": "restarting"' in served.stderr, "the end is noticed")
        status, answer = await ask(served.url, chat("tuned"))
        assert (status, answer["file"]) == (200, "tuned")
        await until(served, "fresh", 200)
        wait_for(lambda: listed(served) == {"tiny@2", "other@1"}, "the old section is gone")


async def test_a_restart_with_a_draining_section_still_serves_it(tmp_path: Path) -> None:
    """With every slot taken by what loads at start the router would refuse to start."""
    with running(tmp_path, CORRAL_MODELS_MAX="2") as served:
        async with stream(served, "tuned"):
            drop(served, "fresh")
            await until(served, "fresh", 200)
            os.kill(served.router, signal.SIGKILL)
            wait_for(lambda: '"phase": "restarting"' in served.stderr, "the end is noticed")
        for name in ("fresh", "tuned", "other"):
            status, answer = await ask(served.url, chat(name))
            assert (status, answer["file"]) == (200, name)


async def test_with_room_for_one_requests_wait_for_the_swap(tmp_path: Path) -> None:
    with running(tmp_path, "--slow-load", "0.5", CORRAL_MODELS_MAX="1") as served:
        async with stream(served, "tuned") as first:
            drop(served, "fresh")
            wait_for(lambda: "tiny@2" in listed(served), "the swap has begun")
            await asyncio.sleep(0.5)
            waiting = asyncio.create_task(ask(served.url, chat("tuned")))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            assert await first.end() == {("tuned", "tuned")}
            status, answer = await waiting
        assert (status, answer["file"], answer["adapters"]) == (200, "tuned", ["fresh", "tuned"])
        assert (await ask(served.url, chat("fresh")))[0] == 200


async def test_a_change_during_the_start_and_a_stop_during_a_switch(tmp_path: Path) -> None:
    with serve(tmp_path, "--slow-start", "1.5", "--slow-load", "1") as served:
        wait_for(lambda: "listening on" in served.llama_log, "llama-server starts")
        drop(served, "fresh")
        await until(served, "fresh", 200)
        drop(served, "more")
        wait_for(lambda: "loaded tiny@3" in served.llama_log, "a switch has begun")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert list((served.data_dir / "run").glob("*.ini")) == []


async def test_requests_never_fail_while_adapters_come_and_go(tmp_path: Path) -> None:
    with running(tmp_path) as served:
        stop = asyncio.Event()

        async def busy(name: str) -> int:
            count = 0
            while not stop.is_set():
                status, answer = await ask(served.url, chat(name, delay=0.02))
                assert (status, answer["file"], answer["model"]) == (200, name, name)
                count += 1
            return count

        names = ("tiny", "tuned", "other")
        clients = [asyncio.create_task(busy(name)) for name in names for _ in range(2)]
        for number in range(3):
            path = drop(served, f"extra{number}")
            await until(served, f"extra{number}", 200)
            path.unlink()
            await until(served, f"extra{number}", 404)
        stop.set()
        assert min(await asyncio.gather(*clients)) > 0
        wait_for(lambda: len(listed(served)) == 2, "no section is left over")
