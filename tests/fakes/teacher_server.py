"""A teacher model that is a real HTTP server: OpenAI's chat completions, and faults to order.

It reads the fields of DSPy's chat layout out of a request, and answers in it with whatever the
test's `answer` function makes of them.
"""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Fields = dict[str, str]
Fault = tuple[int, bytes, dict[str, str]]
_FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with |\Z)", re.S)
_WANTED = re.compile(r"starting with the field `\[\[ ## (\w+) ## \]\]`")
GARBAGE: Fault = (200, b"<html>", {})


def error(status: int, **headers: str) -> Fault:
    """An error in OpenAI's shape."""
    said = {"message": "to order", "type": "server_error", "param": None, "code": None}
    body = json.dumps({"error": said}).encode()
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


class TeacherServer:
    """Start it with `with`; `url` ends in /v1. `faults` are answered first, in order. `answer`
    gives the text of the wanted field, or None for text without any field."""

    def __init__(self, answer: Callable[[Fields], str | None], *, key: str = "none") -> None:
        self.answer = answer
        self.key = key
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.asked: list[Fields] = []
        self.finish_reason = "stop"
        self.usage: dict[str, int] | None = {
            "prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40,
        }  # fmt: skip
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str, key: str, body: dict[str, Any]) -> Fault:
        self.requests.append(body)
        if self.faults:
            return self.faults.pop(0)
        if path != "/v1/chat/completions":
            return error(404)
        if key != f"Bearer {self.key}":
            return error(401)
        last = body["messages"][-1]["content"]
        fields = {name: text.strip() for name, text in _FIELD.findall(last)}
        self.asked.append(fields)
        wanted = _WANTED.search(last)
        text = self.answer(fields or {"plain": last})
        if text is not None and wanted:
            text = f"[[ ## {wanted[1]} ## ]]\n{text}\n\n[[ ## completed ## ]]"
        message = {"role": "assistant", "content": text or "I would rather not."}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        answer = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "teacher-7b",
            "choices": [choice], "usage": self.usage,
        }  # fmt: skip
        return 200, json.dumps(answer).encode(), {}


def _handler(server: TeacherServer) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                status, data, headers = server.reply(
                    self.path, self.headers.get("authorization", ""), body
                )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler
