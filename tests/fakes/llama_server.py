"""A stand-in for llama-server in router mode: a real process, the standard library only.

Speaks as much of the router as Corral uses, and fails on request. Process faults are flags; faults
of one request are fields of its body, under `fake`: tokens, delay (s between tokens), drop_at (die
in mid-stream like an instance: the router's raw text, no end), cut_at (drop the connection), silent
(never answer), status and error (an error answer), kill (SIGKILL to itself), text (the content).
Each loaded section is a child process that ends when its stdin closes, as the real instances do.
"""

import argparse
import configparser
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DIED = "proxy error: Failed to read connection"


class Router(ThreadingHTTPServer):
    """State shared by the handler's threads."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, flags: argparse.Namespace) -> None:
        super().__init__((flags.host, flags.port), Handler)
        self.flags = flags
        self.key = os.environ["LLAMA_API_KEY"]
        presets = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        text = Path(flags.models_preset).read_text(encoding="utf-8")
        presets.read_string(text.replace("version = 1", "", 1))
        self.sections = {name: dict(presets[name]) for name in presets.sections()}
        self.instances: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: set[str] = set()
        self.ready_at = time.monotonic() + flags.slow_start
        self.requests = 0
        for name, options in self.sections.items():
            if options.get("load-on-startup") == "true":
                self.load(name)

    def load(self, name: str) -> None:
        if name in self.flags.fail_load:
            self.failed.add(name)
        elif name not in self.instances:
            self.instances[name] = subprocess.Popen(["cat"], stdin=subprocess.PIPE)

    def describe(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = {"value": "loaded" if name in self.instances else "unloaded"}
        if name in self.failed:
            status |= {"failed": True, "exit_code": 1}
        return {"id": name, "status": status}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Router

    def do_GET(self) -> None:
        if self.path == "/health":
            ready = time.monotonic() >= self.server.ready_at
            self.answer(200 if ready else 503, {"status": "ok"})
        elif self.allowed() and self.path == "/models":
            self.answer(200, {"data": [self.server.describe(n) for n in self.server.sections]})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.allowed():
            return
        body = json.loads(raw)
        name = body.get("model", "")
        if name not in self.server.sections:
            self.fail(400, f"model '{name}' not found", "invalid_request_error")
        elif self.path == "/models/load":
            self.server.load(name)
            self.answer(200, {"success": True})
        else:
            self.infer(name, body)

    def infer(self, name: str, body: dict[str, Any]) -> None:
        self.server.load(name)
        self.server.requests += 1
        if self.server.flags.crash_after and self.server.requests >= self.server.flags.crash_after:
            os.kill(os.getpid(), signal.SIGKILL)
        fake = body.get("fake", {})
        if fake.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if fake.get("silent"):
            self.wait_until_gone()
        elif "status" in fake:
            self.fail(
                fake["status"], fake.get("error", "made up"), fake.get("type", "server_error")
            )
        elif "raw" in fake:
            self.send(200, "application/json", fake["raw"].encode())
        elif body.get("stream"):
            self.stream(name, body, fake)
        else:
            time.sleep(fake.get("delay", 0))
            self.answer(200, self.whole(name, body, fake))

    def whole(self, name: str, body: dict[str, Any], fake: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": fake.get("text", "hello")}
        return {"choices": [{"message": message}], "model": name, "received": body}

    def stream(self, name: str, body: dict[str, Any], fake: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        log("stream begins")
        try:
            self.events(name, fake)
        except OSError:
            log("client gone")

    def events(self, name: str, fake: dict[str, Any]) -> None:
        for index in range(fake.get("tokens", 3)):
            if index == fake.get("drop_at"):
                self.chunk(b'data: {"half' + DIED.encode())
                self.chunk(b"")
                return
            if index == fake.get("cut_at"):
                self.close_connection = True
                return
            delta = {"delta": {"content": fake.get("text", f"t{index}")}}
            event = json.dumps({"choices": [delta], "model": name}, separators=(",", ":"))
            self.chunk(f"data: {event}\n\n".encode())
            time.sleep(fake.get("delay", 0))
        if "error_event" in fake:
            event = json.dumps({"error": {"code": 500, "message": fake["error_event"]}})
            self.chunk(f"data: {event}\n\n".encode())
        else:
            self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def wait_until_gone(self) -> None:
        self.connection.recv(1)
        log("client gone")
        self.close_connection = True

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self.fail(401, "Invalid API Key", "authentication_error")
        return False

    def fail(self, status: int, message: str, kind: str) -> None:
        self.answer(status, {"error": {"code": status, "message": message, "type": kind}})

    def answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body, separators=(",", ":")).encode()
        self.send(status, "application/json; charset=utf-8", raw)

    def send(self, status: int, content_type: str, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: requests are not logged."""


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--models-preset")
    parser.add_argument("--slow-start", type=float, default=0)
    parser.add_argument("--crash-after", type=int, default=0)
    parser.add_argument("--exit-at-start", type=int)
    parser.add_argument("--fail-load", action="append", default=[])
    parser.add_argument("--ignore-sigterm", action="store_true")
    return parser.parse_known_args()[0]


def main() -> None:
    flags = parse()
    if flags.exit_at_start is not None:
        sys.exit(flags.exit_at_start)
    router = Router(flags)
    stop = (lambda *_: None) if flags.ignore_sigterm else (lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, stop)
    log(f"listening on {flags.port}")
    threading.Thread(target=router.serve_forever, daemon=True).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
