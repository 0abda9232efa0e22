"""`corral doctor --live`: what it concludes (pure), and what it asks of a server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from corral.cli import app
from corral.cli.doctor_live import Asker, _sums
from corral.diagnosis import Finding
from corral.diagnosis_live import Answer, Live, Written, diagnose_live
from corral.settings import Settings

EMPTY = Answer(0.01, {"data": []}, status=200)
HEALTHY = Live(
    url="http://127.0.0.1:8000",
    local=True,
    health=Answer(0.002, {"status": "ok"}, status=200),
    ready=Answer(0.01, {"sections": {"tiny@1": "loaded"}, "problems": []}, status=200),
    models=Answer(0.01, {"data": [{"id": "tiny"}]}, status=200),
    jobs={"queued": EMPTY, "running": EMPTY},
    model="tiny",
    plain=Written(0.2, 0.2, 32, 160.0),
    stream=Written(0.05, 0.25, 32, 158.0),
    metrics={"corral_slots": 4, "corral_slots_busy": 1, "corral_waiting": 0},
    strangers=True,
)


def finding(area: str, **changes: Any) -> Finding:
    (found,) = [f for f in diagnose_live(replace(HEALTHY, **changes)) if f.area == area]
    return found


def test_a_healthy_server_has_nothing_to_mend() -> None:
    found = diagnose_live(HEALTHY)
    assert {(f.level, f.mend) for f in found} == {("ok", None)}
    said = {f.area: f.detail for f in found}
    assert said["stream"] == "`tiny`: first token after 50 ms, 32 tokens in 250 ms, 158 tokens/s"
    assert said["load"] == "1 of 4 slots in use, 0 requests wait"


def test_nobody_there_is_all_there_is_to_say() -> None:
    found = diagnose_live(replace(HEALTHY, health=Answer(0.1, error="refused")))
    assert found == [Finding("health", "problem", "refused", "corral serve")]


@pytest.mark.parametrize(
    ("area", "changes", "level", "said"),
    [
        ("health", {"health": Answer(2.0, {}, status=200)}, "warning", "2000 ms"),
        ("keys", {"strangers": False}, "ok", "without a key is refused"),
        ("keys", {"local": False}, "problem", "anybody"),
        ("keys", {"models": Answer(0.1, None, "wrong key", 401)}, "problem", "wrong key"),
        ("ready", {"ready": Answer(0.1, None, "`tiny` is loading", 503)}, "problem", "loading"),
        ("models", {"models": EMPTY}, "problem", "none to ask"),
        ("completion", {"plain": Written(0, 0, error="out of memory")}, "problem", "out of memory"),
        ("stream", {"stream": Written(0, 0, error="broke off")}, "problem", "broke off"),
        (
            "load",
            {"metrics": {"corral_slots": 4, "corral_slots_busy": 4, "corral_waiting": 3}},
            "warning",
            "3 requests wait",
        ),
        ("restarts", {"metrics": {"corral_upstream_restarts_total": 2}}, "warning", "2 times"),
        (
            "workers",
            {"jobs": {"queued": Answer(0.1, {"data": [{"id": "a"}]}), "running": EMPTY}},
            "warning",
            "0 jobs run, 1 wait: no worker takes them",
        ),
        (
            "workers",
            {"jobs": {"queued": Answer(0.1, {"data": [{"id": "a", "paused": True}]})}},
            "ok",
            "0 jobs run, 0 wait",
        ),
        (
            "workers",
            {"jobs": {"queued": Answer(0.1, None, "scope", 403), "running": EMPTY}},
            "warning",
            "scope",
        ),
    ],
)
def test_what_is_wrong_is_named(area: str, changes: dict[str, Any], level: str, said: str) -> None:
    found = finding(area, **changes)
    assert (found.level, said in found.detail) == (level, True), found
    assert (found.mend is None) == (level == "ok")


def test_a_problem_of_the_catalogue_is_named() -> None:
    problems = [{"name": "half", "message": "it is cut off"}]
    ready = Answer(0.1, {"sections": {}, "problems": problems}, status=200)
    assert finding("model half", ready=ready).detail == "it is cut off"


def test_samples_are_summed_over_their_labels() -> None:
    text = '# HELP a b\ncorral_slots{section="a"} 4.0\ncorral_slots{section="b c"} 2.0\nother 1.5\n'
    assert _sums(text) == {"corral_slots": 6.0, "other": 1.5}


class Handler(BaseHTTPRequestHandler):
    """A Corral of a few fixed answers, that wants the key `right`."""

    broken = False

    def do_GET(self) -> None:
        answers: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/ready": {"sections": {"tiny@1": "loaded"}, "problems": []},
            "/v1/models": {
                "data": [
                    {"id": "vec", "corral": {"kind": "embedding"}},
                    {"id": "tiny", "corral": {"kind": "base"}},
                ]
            },
        }
        if self.path == "/health" or self.allowed():
            if self.path == "/metrics":
                self.answer(b"corral_slots 4.0\ncorral_slots_busy 0.0\n")
            else:
                self.answer(json.dumps(answers.get(self.path, {"data": []})).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["model"] == "tiny"
        if not self.allowed():
            return
        timings = {"predicted_n": 7, "predicted_per_second": 70.0}
        if body["stream"]:
            events = f'data: {{"choices":[]}}\n\ndata: {json.dumps({"timings": timings})}\n\n'
            self.answer(events.encode() + (b"" if self.broken else b"data: [DONE]\n\n"))
        else:
            whole = {"usage": {"completion_tokens": 7}, "timings": timings}
            self.answer(json.dumps(whole).encode())

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == "Bearer right":
            return True
        self.answer(b'{"error":{"message":"a key is needed"}}', 401)
        return False

    def answer(self, raw: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def corral(handler: type[Handler] = Handler) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def with_key(key: str) -> Settings:
    return Settings.model_validate({"api_keys": [key], "default_model": "gone"})


def test_it_asks_a_model_that_writes_and_tells_how_fast() -> None:
    with corral() as url:
        seen = Asker(url + "/v1", with_key("right")).look()
    assert (seen.model, seen.strangers, seen.local) == ("tiny", False, True)
    assert seen.plain is not None
    assert seen.stream is not None
    assert (seen.plain.tokens, seen.plain.rate) == (7, 70.0)
    assert (seen.stream.tokens, seen.stream.rate, seen.stream.error) == (7, 70.0, "")
    assert 0 < seen.stream.first <= seen.stream.last
    assert {f.level for f in diagnose_live(seen)} == {"ok"}


def test_a_stream_without_its_end_is_a_problem() -> None:
    with corral(type("Broken", (Handler,), {"broken": True})) as url:
        seen = Asker(url, with_key("right")).look()
    assert seen.stream is not None
    assert seen.stream.error == "the stream broke off"


def test_a_wrong_key_is_told_as_the_server_says_it() -> None:
    with corral() as url:
        found = {f.area: f for f in diagnose_live(Asker(url, with_key("wrong")).look())}
    assert (found["keys"].level, found["keys"].detail) == ("problem", "a key is needed")


def test_the_command_prints_json_and_fails_with_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEYS", "right")
    with corral() as url:
        done = CliRunner().invoke(app, ["doctor", "--live", "--url", url, "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0, done.stdout
    assert (report["url"], report["model"], report["stream"]["tokens"]) == (url, "tiny", 7)
    assert {f["area"] for f in report["findings"]} >= {"health", "keys", "stream", "disk"}
    gone = CliRunner().invoke(app, ["doctor", "--live", "--url", url])
    assert gone.exit_code == 1
    assert "health" in gone.stdout
