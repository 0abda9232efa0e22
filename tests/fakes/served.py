"""Run `corral serve` as a process, over the fake llama-server, and talk to it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.gguf_file import write_adapter, write_model

FAKE = Path(__file__).with_name("llama_server.py")
URL = re.compile(r"Corral serves (http://[^/\s]+)/v1")
PATIENCE = 20.0


def fake_llama(folder: Path, *flags: str) -> Path:
    """A folder with a `llama-server` that is the fake with these fault flags."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "llama-server"
    command = shlex.join([sys.executable, "-I", "-S", str(FAKE), *flags])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return folder


def wait_for(what: Callable[[], Any], reason: str, patience: float = PATIENCE) -> Any:
    """Poll until `what` gives something true; its value."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, f"waited {patience} s in vain: {reason}"
        time.sleep(0.01)
    return found


class Served:
    """A running `corral serve`."""

    def __init__(
        self, root: Path, flags: tuple[str, ...], variables: dict[str, str], port: str
    ) -> None:
        self.data_dir = root / "data"
        environment = {
            **{name: value for name, value in os.environ.items() if "CORRAL" not in name},
            "CORRAL_DATA": str(self.data_dir),
            "CORRAL_LLAMA_BIN_DIR": str(fake_llama(root / "bin", *flags)),
            "CORRAL_BUNDLED_MODELS_DIR": str(root / "none"),
            "CORRAL_ALIASES": "gpt-4o=tuned,gpt-4o+tools=tiny",
            "CORRAL_DEFAULT_MODEL": "tiny",
            "CORRAL_PRELOAD": "tiny",
            "CORRAL_STOP_TIMEOUT": "2",
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "corral", "serve", "--port", port],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self._lines.extend(iter(stderr.readline, ""))

    @property
    def stderr(self) -> str:
        """What it has printed so far."""
        return "".join(self._lines)

    @property
    def url(self) -> str:
        """Where it listens; waits for it to be ready."""
        found = wait_for(
            lambda: URL.search(self.stderr) or self.process.poll() is not None, "corral is ready"
        )
        assert found is not True, f"corral serve ended: {self.stderr}"
        address: str = found[1]
        return address

    @property
    def llama_log(self) -> str:
        """llama-server's own output."""
        path = self.data_dir / "logs/llama-server.log"
        return path.read_text() if path.exists() else ""

    @property
    def router(self) -> int:
        """The process id of the fake router."""
        found: list[int] = wait_for(lambda: children(self.process.pid), "a router runs")
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to corral alone."""
        os.kill(self.process.pid, number)

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(patience)


@contextmanager
def serve(root: Path, *flags: str, port: str = "0", **variables: str) -> Iterator[Served]:
    """`corral serve` over the fake with `flags`, settings from `variables`; ended after."""
    write_model(root / "data/models/tiny.gguf")
    write_model(root / "data/models/other.gguf")
    write_adapter(root / "data/models/tuned.gguf", "tiny")
    served = Served(root, flags, variables, port)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.signal(signal.SIGTERM)
            try:
                served.ended(10)
            except subprocess.TimeoutExpired:
                served.process.kill()
                served.ended()
        served._reader.join(5)


def children(parent: int) -> list[int]:
    """Process ids whose parent is `parent`."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, ppid in pairs if int(ppid) == parent]


def family(pid: int) -> list[int]:
    """All descendants of `pid`."""
    found = children(pid)
    return found + [grandchild for child in found for grandchild in family(child)]


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip() not in ("", "Z")


def chat(model: str = "tiny", stream: bool = False, **fake: Any) -> dict[str, Any]:
    """A chat request that tells the fake how to answer."""
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "stream": stream, "fake": fake}


async def ask(url: str, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    """POST `body`; the status and the JSON that came back."""
    async with aiohttp.ClientSession() as session, session.post(url + path, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def ask_stream(url: str, body: Any) -> list[Any]:
    """POST `body`; the data of every event, parsed, `[DONE]` as it is."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + "/v1/chat/completions", json=body) as answer,
    ):
        assert answer.content_type == "text/event-stream", await answer.text()
        text = (await answer.read()).decode()
    assert text.endswith("\n\n")
    data = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return [event if event == "[DONE]" else json.loads(event) for event in data]
