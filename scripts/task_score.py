"""The share of an evaluation file that a GGUF answers right, by a llama-server of its own.

The rows are asked and judged as evaluate.py does. The server listens on loopback with a key that only
this process knows, and ends with it.
"""

import asyncio
import json
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from corral.errors import InvalidData, ToolError
from corral.settings import child_environment
from evaluation.asking import Asked, run
from llama_tools import LlamaTools, end_with_parent, reason

SERVER = "llama-server"
START_SECONDS = 600
SLOTS, CONTEXT = 4, 16_384
LONGEST_ANSWER = 1500


def command(
    tools: LlamaTools, model: Path, lora: Path | None, port: int, threads: int | None
) -> list[str]:
    """llama-server's line; greedy requests, four at once."""
    argv = tools.argv(SERVER, "-m", model, "--host", "127.0.0.1", "--port", port, "--offline")
    argv += ["--no-webui", "--jinja", "-c", str(CONTEXT), "-np", str(SLOTS)]
    argv += ["--lora", str(lora)] if lora else []
    return argv + (["-t", str(threads)] if threads else [])


class PrivateServer:
    """A llama-server for one model; `with` waits until it answers."""

    def __init__(
        self, tools: LlamaTools, model: Path, lora: Path | None, threads: int | None
    ) -> None:
        self.port, self.key = free_port(), secrets.token_hex(16)
        self._argv = command(tools, model, lora, self.port, threads)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL for requests."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=child_environment({"LLAMA_API_KEY": self.key}), preexec_fn=end_with_parent,
        )  # fmt: skip
        try:
            self._wait(self._child)
        except BaseException:
            self.close()
            raise
        return self

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if child.poll() is not None:
                self._log.seek(0)
                said = self._log.read().decode(errors="replace")
                raise ToolError(f"{SERVER} did not start: {reason(said, child.returncode)}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise ToolError(f"{SERVER} did not load the model within {START_SECONDS} s")

    def close(self) -> None:
        """End the server; does nothing the second time."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None
        self._log.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def free_port() -> int:
    """A port that nothing listens on now. Another program may take it: then the server says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_rows(path: Path, most: int | None) -> list[dict[str, Any]]:
    """The rows of an evaluation file; InvalidData names the first line that is none."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidData(f"evaluation file {path} cannot be read: {error}", param="file") from None
    for number, line in enumerate(lines[:most], 1):
        try:
            row = json.loads(line)
            said = row["messages"][-1]["role"] == "assistant" and len(row["messages"]) > 1
        except (ValueError, KeyError, TypeError, IndexError):
            said = False
        if not said:
            raise InvalidData(
                f"{path}:{number}: no chat row whose last message is the expected answer",
                param="file",
            )
        rows.append(row)
    if not rows:
        raise InvalidData(f"evaluation file {path} has no rows", param="file")
    return rows


def score(server: PrivateServer, rows: list[dict[str, Any]]) -> float:
    """The share of rows answered right, greedily."""
    asked = Asked(server.url, "model", server.key, LONGEST_ANSWER, SLOTS)
    outcomes = asyncio.run(run(asked, rows))
    return round(sum(outcome.exact for outcome in outcomes) / len(outcomes), 4)
