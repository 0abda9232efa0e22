"""A llama-server for one model and the length of a `with` block, asked over HTTP.

It listens on loopback with a key that only this process knows, and ends with it.
"""

import secrets
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from corral.datasets.llama_process import LlamaProcess
from corral.errors import ToolError
from llama_tools import LlamaTools, reason

SERVER = "llama-server"
START_SECONDS = 600
SLOTS, CONTEXT = 4, 16_384


def command(
    tools: LlamaTools, model: Path, lora: Path | None, port: int, threads: int | None
) -> list[str]:
    """llama-server's line; greedy requests, four at once."""
    argv = tools.argv(SERVER, "-m", model, "--host", "127.0.0.1", "--port", port, "--offline")
    argv += ["--no-webui", "--jinja", "-c", str(CONTEXT), "-np", str(SLOTS)]
    argv += ["--lora", str(lora)] if lora else []
    return argv + (["-t", str(threads)] if threads else [])


class PrivateServer:
    """A llama-server for one model, with `flags` of the caller's; `with` waits until it answers."""

    def __init__(
        self,
        tools: LlamaTools,
        model: Path,
        lora: Path | None,
        threads: int | None,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.port, self.key = free_port(), secrets.token_hex(16)
        self._argv = [*command(tools, model, lora, self.port, threads), *flags]
        self._process: LlamaProcess | None = None

    @property
    def url(self) -> str:
        """The base URL for requests."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._process = LlamaProcess(self._argv, {"LLAMA_API_KEY": self.key})
        try:
            if not self._process.wait(self._answers, START_SECONDS):
                raise self._failure(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _failure(self, process: LlamaProcess) -> ToolError:
        if process.status is None:
            return ToolError(f"{SERVER} did not load the model within {START_SECONDS} s")
        return ToolError(f"{SERVER} did not start: {reason(process.said(), process.status)}")

    def close(self) -> None:
        """End the server; does nothing the second time."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """A port that nothing listens on now. Another program may take it: then the server says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
