"""A private llama-server that renders a GGUF's chat template.

It listens on a socket file in a folder only its owner can enter, so there is no port to lose and
nothing for others to reach. Weights are mapped, not read; no warm-up, no GPU.
"""

import http.client
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from corral.datasets.llama_process import LlamaProcess
from corral.errors import InvalidData, InvalidModel, ToolError

_START_SECONDS = 120
_THREADS = 4
_SOCKET = "llama.sock"
# Bytes of a Unix socket's path: 107 on Linux, 103 on macOS.
_LONGEST_SOCKET = 103


class Request(NamedTuple):
    """What to render: OpenAI messages and tools, and whether the prompt for an answer follows."""

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    ask: bool = False


class Template(Protocol):
    """Anything that renders requests in order; tests and other engines bring their own."""

    def render(self, requests: Iterable[Request]) -> list[str]: ...


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def command(server: Path, model: Path, listen: Path) -> list[str]:
    """The llama-server command line, for `--dry-run` as well."""
    return [
        *(str(server), "--model", str(model), "--host", str(listen)),
        *("--no-warmup", "--jinja", "--no-prefill-assistant", "--offline", "--no-webui"),
        *("--gpu-layers", "0", "--ctx-size", "256", "--parallel", "1", "--threads", "1"),
    ]


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in which a socket's path is short enough for the system, whatever TMPDIR says."""
    prefix = "corral-template-"
    random = 8
    longest = _LONGEST_SOCKET - len(f"/{prefix}/{_SOCKET}") - random
    place = None if len(os.fsencode(tempfile.gettempdir())) <= longest else "/tmp"
    return tempfile.TemporaryDirectory(prefix=prefix, dir=place)


class TemplateServer:
    """Renders through POST /apply-template. Start with `with`; `render` may be called by any thread."""

    def __init__(self, model: Path, server: Path) -> None:
        if not model.is_file():
            raise InvalidModel(f"{model} is no file; give a GGUF file", param="model")
        if not server.is_file():
            raise ToolError(f"{server} is missing; build llama.cpp with make build")
        self._folder = _folder()
        self._socket = Path(self._folder.name) / _SOCKET
        self._command = command(server, model, self._socket)
        self._process: LlamaProcess | None = None
        self._local = threading.local()
        self._connections: list[_SocketConnection] = []
        self._pool = ThreadPoolExecutor(_THREADS)

    def __enter__(self) -> Self:
        try:
            self._process = LlamaProcess(self._command)
            if not self._process.wait(self._answers, _START_SECONDS):
                raise self._failure(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/health", None)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _failure(self, process: LlamaProcess) -> InvalidModel:
        log = process.said().strip().splitlines()
        last = next(
            (line for line in reversed(log) if "error" in line.lower()),
            log[-1] if log else "no output",
        )
        return InvalidModel(
            f"llama-server could not open the model to render its chat template: {last}",
            param="model",
        )

    def render(self, requests: Iterable[Request]) -> list[str]:
        """The texts, in order. Raises InvalidData where the template refuses a conversation."""
        return list(self._pool.map(self._render, requests))

    def _render(self, request: Request) -> str:
        body: dict[str, Any] = {"messages": request.messages, "add_generation_prompt": request.ask}
        if request.tools:
            body["tools"] = request.tools
        status, answer = self.ask("POST", "/apply-template", json.dumps(body).encode())
        if status != 200:
            why = answer.get("error", {}).get("message", f"status {status}")
            raise InvalidData(
                f"the model's chat template refuses these messages: {why}", param="messages"
            )
        return str(answer["prompt"])

    def ask(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """One request to the server: status and JSON answer. Keeps a connection for each thread; one that
        the server has closed meanwhile, as it does after a quiet while, is replaced."""
        if getattr(self._local, "connection", None) is None:
            return self._ask(method, path, body)
        try:
            return self._ask(method, path, body)
        except (OSError, http.client.HTTPException):
            return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _SocketConnection(self._socket)
            self._connections.append(connection)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            self._local.connection = None
            if method == "POST" and self._process is not None and self._process.status is not None:
                raise ToolError("llama-server ended while rendering the chat template") from None
            raise

    def close(self) -> None:
        """End the process; does nothing the second time."""
        self._pool.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()
        if self._process is not None:
            self._process.close()
            self._process = None
        self._folder.cleanup()

    def __exit__(self, *_: object) -> None:
        self.close()
