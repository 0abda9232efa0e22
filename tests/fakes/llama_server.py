"""A stand-in for llama-server in router mode: a real process, the standard library only.

Speaks as much of the router as Corral uses, and fails on request. Process faults are flags; faults
of one request are fields of its body, under `fake`: tokens, delay (s between tokens), until (a file:
tokens come until it exists, instead of a number of them), drop_at (die
in mid-stream like an instance: the router's raw text, no end), cut_at (drop the connection), silent
(never answer), status and error (an error answer), kill (SIGKILL to itself), text (the content), last (fields of the end: usage, timings).
Each loaded section is a child process that ends when its stdin closes, as the real instances do, and
listens on a port of its own, told as the router tells it. What comes there the router does not see:
it takes that section for idle. A reload, an unload, and the limit of instances work as in the router;
a stream whose instance ends is cut. Answers name the file that has answered (`file`), the section's
adapters (`adapters`), and whether it came through the router (`routed`). With --no-ports the router
tells none.
"""

import argparse
import configparser
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

STREAMED = ("/completions", "/responses", "/messages", "/infill")
DIED = "proxy error: Failed to read connection"


class Router(ThreadingHTTPServer):
    """State shared by the handler's threads."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, flags: argparse.Namespace) -> None:
        super().__init__((flags.host, flags.port), Handler)
        self.flags = flags
        self.key = os.environ["LLAMA_API_KEY"]
        self.sections = self.read_presets()
        self.instances: dict[str, subprocess.Popen[bytes]] = {}
        self.listeners: dict[str, Instance] = {}
        self.loaded_at: dict[str, float] = {}
        self.busy: Counter[str] = Counter()
        self.failed: set[str] = set()
        self.lock = threading.RLock()
        self.ready_at = time.monotonic() + flags.slow_start
        self.requests = 0
        for name, options in self.sections.items():
            if options.get("load-on-startup") == "true":
                self.load(name)

    def read_presets(self) -> dict[str, dict[str, str]]:
        presets = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        text = Path(self.flags.models_preset).read_text(encoding="utf-8")
        presets.read_string(text.replace("version = 1", "", 1))
        return {name: dict(presets[name]) for name in presets.sections()}

    def reload(self) -> None:
        with self.lock:
            sections = self.read_presets()
            for name in [n for n in self.instances if sections.get(n) != self.sections[n]]:
                self.unload(name)
            self.failed.clear()
            self.sections = sections
            log(f"listed {' '.join(sorted(sections))}")

    def load(self, name: str) -> bool:
        """False when there is no room."""
        with self.lock:
            if name in self.instances:
                return True
            files = self.files(name)
            bad = any(part in file for part in self.flags.fail_file for file in files)
            if name in self.flags.fail_load or bad or not all(map(os.path.exists, files)):
                self.failed.add(name)
                log(f"failed {name}")
                return True
            if not self.make_room():
                return False
            self.instances[name] = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            self.listeners[name] = Instance(self, name)
            self.loaded_at[name] = time.monotonic() + self.flags.slow_load
            log(f"loaded {name}")
            return True

    def take(self, name: str) -> bool:
        """Load for a request, which then counts; False when there is no room."""
        with self.lock:
            if name in self.sections and not self.load(name):
                return False
            self.busy[name] += 1
            return True

    def make_room(self) -> bool:
        idle = [name for name in self.instances if not self.busy[name]]
        while len(self.instances) >= self.flags.models_max and idle:
            self.unload(idle.pop(0))
        return bool(len(self.instances) < self.flags.models_max)

    def unload(self, name: str) -> None:
        with self.lock:
            instance = self.instances.pop(name)
            self.listeners.pop(name).end()
            instance.communicate()
            log(f"unloaded {name}")

    def files(self, name: str) -> list[str]:
        options = self.sections[name]
        return [options["model"], *filter(None, options.get("lora", "").split(","))]

    def describe(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = {"value": "unloaded"}
        instance = self.instances.get(name)
        if instance is not None and instance.poll() is not None:
            del self.instances[name]
            self.listeners.pop(name).end()
            self.failed.add(name)
        elif instance is not None:
            loading = time.monotonic() < self.loaded_at[name]
            status["value"] = "loading" if loading else "loaded"
            if not self.flags.no_ports:
                status["args"] = ["llama-server", "--port", str(self.listeners[name].server_port)]
        if name in self.failed:
            status |= {"failed": True, "exit_code": 1}
        return {"id": name, "status": status}


class Instance(ThreadingHTTPServer):
    """The port of one loaded section."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, router: Router, name: str) -> None:
        super().__init__((router.flags.host, 0), InstanceHandler)
        self.router, self.name = router, name
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Router
    routed = False

    def do_GET(self) -> None:
        if self.path == "/health":
            ready = time.monotonic() >= self.server.ready_at
            self.answer(200 if ready else 503, {"status": "ok"})
        elif self.path == "/models/sse":
            if self.allowed():
                self.tell_loads()
        elif self.allowed() and self.path.startswith("/models"):
            with self.server.lock:
                if self.path.endswith("?reload=1"):
                    self.server.reload()
                self.answer(200, {"data": [self.server.describe(n) for n in self.server.sections]})

    def tell_loads(self) -> None:
        """How far each load has come, as often as the router tells it, until the client goes."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                for name, ready_at in list(self.server.loaded_at.items()):
                    left = ready_at - time.monotonic()
                    if left > 0:
                        share = 1 - left / self.server.flags.slow_load
                        progress = {
                            "stages": ["text_model"],
                            "current": "text_model",
                            "value": share,
                        }
                        data = {"status": "loading", "progress": progress}
                        event = {"event": "status_change", "model": name, "data": data}
                        self.chunk(f"data: {json.dumps(event)}\n\n".encode())
                time.sleep(0.05)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.allowed():
            return
        body = json.loads(raw)
        name = body.get("model", "")
        if name not in self.server.sections:
            self.fail(400, f"model '{name}' not found", "invalid_request_error")
        elif self.path == "/models/load":
            if name in self.server.instances:
                self.fail(400, "model is already running", "invalid_request_error")
            elif self.server.load(name):
                self.answer(200, {"success": True})
            else:
                self.fail(500, "model limit reached, try again later", "server_error")
        elif self.path == "/models/unload":
            self.server.unload(name)
            self.answer(200, {"success": True})
        else:
            self.infer(name, body)

    def infer(self, name: str, body: dict[str, Any]) -> None:
        while not self.server.take(name):
            time.sleep(0.01)
        self.routed = True
        try:
            self.respond(name, body)
        finally:
            self.server.busy[name] -= 1

    def respond(self, name: str, body: dict[str, Any]) -> None:
        if name in self.server.failed:
            self.fail(500, f"model name={name} failed to load", "server_error")
            return
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
        elif body.get("stream") and self.path.endswith(STREAMED):
            self.stream(name, body, fake)
        else:
            time.sleep(fake.get("delay", 0))
            self.answer(200, self.whole(name, body, fake))

    def whole(self, name: str, body: dict[str, Any], fake: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": fake.get("text", "hello")}
        answered = {**self.answered(name, body), **fake.get("last", {})}
        return {"choices": [{"message": message}], "model": name, "received": body, **answered}

    def answered(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        base, *adapters = [Path(file).stem for file in self.server.files(name)]
        scales = {entry["id"]: entry["scale"] for entry in body.get("lora", [])}
        # As llama-server does: an adapter that the request leaves out applies.
        applied = [a for index, a in enumerate(adapters) if scales.get(index, 1.0)]
        answered = "+".join(applied) or base
        return {"file": answered, "adapters": adapters, "routed": self.routed}

    def stream(self, name: str, body: dict[str, Any], fake: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        log("stream begins")
        try:
            self.events(name, body, fake)
        except OSError:
            log("client gone")

    def events(self, name: str, body: dict[str, Any], fake: dict[str, Any]) -> None:
        answered = self.answered(name, body)
        instance = self.server.instances.get(name)
        for index in count():
            ended = index >= fake.get("tokens", 3)
            if os.path.exists(fake["until"]) if "until" in fake else ended:
                break
            if index == fake.get("drop_at") or self.server.instances.get(name) is not instance:
                self.chunk(b'data: {"half' + DIED.encode())
                self.chunk(b"")
                return
            if index == fake.get("cut_at"):
                self.close_connection = True
                return
            delta = {"delta": {"content": fake.get("text", f"t{index}")}}
            content = {"choices": [delta], "model": name, **answered}
            event = json.dumps(content, separators=(",", ":"))
            self.chunk(f"data: {event}\n\n".encode())
            time.sleep(fake.get("delay", 0))
        if "last" in fake:
            event = json.dumps({"choices": [], **fake["last"]}, separators=(",", ":"))
            self.chunk(f"data: {event}\n\n".encode())
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
        log("silent")
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


class InstanceHandler(Handler):
    """One request that came straight to a section's port."""

    def setup(self) -> None:
        super().setup()
        instance: Instance = self.server  # type: ignore[assignment]
        self.section, self.server = instance.name, instance.router

    def do_GET(self) -> None:
        self.answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        child = self.server.instances.get(self.section)
        if child is None or child.poll() is not None:
            self.close_connection = True  # an instance that has died answers nothing
        elif self.allowed():
            self.respond(self.section, body)


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
    parser.add_argument("--models-max", type=int, default=4)
    parser.add_argument("--fail-load", action="append", default=[])
    parser.add_argument("--fail-file", action="append", default=[], help="part of a file's path")
    parser.add_argument("--no-ports", action="store_true")
    parser.add_argument("--slow-load", type=float, default=0)
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
