"""Real processes that die: llama-server's router and instances, and Corral itself."""

import asyncio
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI

from tests.e2e.corral_process import CorralProcess, child_environment, corral_argv, wait_for

STREAMS = 8
RECOVERY_SECONDS = 5
STOP_SECONDS = 10
# Corral's end may come first by a moment: the kernel tells the children, the children end.
ORPHAN_SECONDS = 3
ENDLESS = {
    "model": "corral-tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "max_tokens": 3500,
    "ignore_eos": True,
}


class Stream:
    """One endless stream, read to its end in the background."""

    def __init__(self, session: aiohttp.ClientSession, corral: CorralProcess) -> None:
        self.begun = asyncio.Event()
        self._task = asyncio.create_task(self._read(session, corral.url + "/chat/completions"))

    async def _read(self, session: aiohttp.ClientSession, url: str) -> list[str]:
        data = b""
        async with session.post(url, json=ENDLESS) as answer:
            assert answer.status == 200, await answer.text()
            async for chunk in answer.content.iter_any():
                data += chunk
                self.begun.set()
        assert data.endswith(b"\n\n"), "the stream ended inside an event"
        return [event.removeprefix("data: ") for event in data.decode().split("\n\n")[:-1]]

    async def last_event(self) -> str:
        """What the stream ended with."""
        return (await asyncio.wait_for(self._task, 30))[-1]


async def begin(session: aiohttp.ClientSession, corral: CorralProcess) -> list[Stream]:
    """Eight streams, each with its first token."""
    streams = [Stream(session, corral) for _ in range(STREAMS)]
    begun = asyncio.gather(*(stream.begun.wait() for stream in streams))
    await asyncio.wait_for(begun, 30)
    return streams


def ask(corral: CorralProcess) -> str | None:
    with OpenAI(base_url=corral.url, api_key="any", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="corral-tiny",
            messages=[{"role": "user", "content": "Repeat exactly: Hedgerow"}],
            temperature=0,
            max_tokens=40,
        )
    return answer.choices[0].message.content


@pytest.fixture
def eight_slots(tmp_path: Path) -> Iterator[CorralProcess]:
    """A Corral of this test's own that answers eight requests at once."""
    with CorralProcess(tmp_path, environment={"CORRAL_SLOTS": str(STREAMS)}) as process:
        yield process


@pytest.mark.parametrize("victim", ["instance", "router"])
async def test_llama_server_killed_during_eight_streams(
    eight_slots: CorralProcess, victim: str
) -> None:
    """Each stream ends with an error event, and the next request succeeds within 5 s."""
    corral = eight_slots
    async with aiohttp.ClientSession() as session:
        streams = await begin(session, corral)
        (pid,) = corral.instances() if victim == "instance" else corral.routers()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        ends = [json.loads(await stream.last_event()) for stream in streams]
    assert [set(end) for end in ends] == [{"error"}] * STREAMS
    for end in ends:
        assert end["error"]["type"] == "upstream_error"
        assert set(end["error"]) == {"message", "type", "param", "code"}
    assert await asyncio.to_thread(ask, corral) == "Hedgerow"
    assert time.monotonic() - killed < RECOVERY_SECONDS
    assert pid not in corral.llama_servers()
    assert len(corral.llama_servers()) == 2, "one router and one instance, as before"


async def test_the_sdk_raises_when_llama_server_dies_during_a_stream(
    own_corral: CorralProcess,
) -> None:
    async with AsyncOpenAI(base_url=own_corral.url, api_key="any", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="corral-tiny",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=3500,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        await anext(stream)
        (pid,) = own_corral.instances()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(APIError, match="llama-server") as raised:
            async for _ in stream:
                pass
    assert raised.value.code == "upstream_failed"


async def test_an_idle_instance_that_was_killed_costs_no_answer(own_corral: CorralProcess) -> None:
    assert await asyncio.to_thread(ask, own_corral) == "Hedgerow"
    for _ in range(2):
        (pid,) = own_corral.instances()
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.to_thread(ask, own_corral) == "Hedgerow"


async def test_streams_one_after_the_other_never_fail(eight_slots: CorralProcess) -> None:
    """An instance ends the connection after a stream, unannounced: none may be used again."""
    short = ENDLESS | {"max_tokens": 4}

    async def one_after_the_other(session: aiohttp.ClientSession) -> list[int]:
        url = eight_slots.url + "/chat/completions"
        statuses = []
        for _ in range(20):
            async with session.post(url, json=short) as answer:
                await answer.read()
                statuses.append(answer.status)
        return statuses

    async with aiohttp.ClientSession() as session:
        lists = await asyncio.gather(*(one_after_the_other(session) for _ in range(STREAMS)))
    assert {status for statuses in lists for status in statuses} == {200}


async def test_corral_killed_leaves_no_llama_server(eight_slots: CorralProcess) -> None:
    async with aiohttp.ClientSession() as session:
        streams = await begin(session, eight_slots)
        assert len(eight_slots.llama_servers()) == 2
        eight_slots.child.kill()
        eight_slots.child.wait()
        wait_for("llama-server is gone", ORPHAN_SECONDS, lambda: not eight_slots.llama_servers())
        for stream in streams:
            with pytest.raises(aiohttp.ClientError):
                await stream.last_event()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_during_eight_streams(
    eight_slots: CorralProcess, how: signal.Signals
) -> None:
    """All is over within 10 s; each stream has its proper end or an error event."""
    async with aiohttp.ClientSession() as session:
        streams = await begin(session, eight_slots)
        seconds = await asyncio.to_thread(eight_slots.stop, how, STOP_SECONDS)
        ends = [await stream.last_event() for stream in streams]
    assert seconds < STOP_SECONDS
    assert eight_slots.llama_servers() == []
    for end in ends:
        assert end == "[DONE]" or set(json.loads(end)) == {"error"}, end


def test_a_second_corral_on_the_same_port_says_so(corral: CorralProcess, tmp_path: Path) -> None:
    port = corral.root.rpartition(":")[2]
    second = subprocess.run(
        corral_argv("serve", "--port", port, "--data-dir", str(tmp_path)),
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=30,
    )
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"port {port} on 127.0.0.1 is taken" in second.stderr
    assert "--port" in second.stderr


def corrupt(models: Path) -> None:
    """What people drop in by accident: half a download, a web page, a header of another world."""
    models.mkdir(parents=True)
    (models / "half.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 4, 1) + b"\x07")
    (models / "page.gguf").write_bytes(b"<!DOCTYPE html><title>404</title>")
    (models / "empty.gguf").touch()
    # A sound header of an architecture that llama.cpp does not have.
    key, value = b"general.architecture", b"no-such"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    (models / "alien.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry)


def test_corrupt_files_do_not_stop_serving(tmp_path: Path) -> None:
    corrupt(tmp_path / "data" / "models")
    with (
        CorralProcess(tmp_path) as corral,
        OpenAI(base_url=corral.url, api_key="any", max_retries=0) as client,
    ):
        assert ask(corral) == "Hedgerow"
        _, ready = corral.get("/ready")
        assert {problem["name"] for problem in ready["problems"]} >= {"half", "page", "empty"}
        for name in ("half", "page", "empty", "alien"):
            with pytest.raises(APIStatusError) as raised:
                client.completions.create(model=name, prompt="x", max_tokens=1)
            assert name in raised.value.message
            assert raised.value.code
        assert ask(corral) == "Hedgerow"


def test_without_binaries_the_command_that_builds_them_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        corral_argv("serve", "--port", "0", "--data-dir", str(tmp_path)),
        capture_output=True,
        text=True,
        env=child_environment(CORRAL_LLAMA_BIN_DIR=str(tmp_path)),
        timeout=30,
    )
    assert done.returncode == 1
    assert "make build" in done.stderr


def test_the_bundled_model_broken_is_told_with_how_to_restore_it(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[models.corral-tiny]\nfile = "gone.gguf"\n')
    done = subprocess.run(
        corral_argv("serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
        capture_output=True,
        text=True,
        env=child_environment(CORRAL_BUNDLED_MODELS_DIR=str(tmp_path)),
        timeout=30,
    )
    assert done.returncode == 1
    assert "gone.gguf is missing" in done.stderr
    assert "git checkout -- models/" in done.stderr
