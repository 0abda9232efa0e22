"""The boundaries of a real run: its instances are closed, and its logs hold no prompt and no key."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.corral_process import CorralProcess, processes, wait_for
from tests.fakes.llama_routes import routes

ROOT = Path(__file__).resolve().parents[2]
REGISTERED = re.compile(r'ctx_http\.(get|post|del)\s*\("([^"]+)"')
# What llama-server's levers answer to who has its key: switched off.
OFF = {
    ("POST", "/props"): (404, 501),
    ("GET", "/slots"): (404, 501),
    ("POST", "/slots/0?action=save"): (404, 501),
    ("GET", "/metrics"): (404, 501),
    ("GET", "/tools"): (403, 404),
    ("POST", "/tools"): (403, 404),
    ("GET", "/cors-proxy?url=http://127.0.0.1:9/"): (403, 404),
    ("POST", "/cors-proxy?url=http://127.0.0.1:9/"): (403, 404),
}


def ask(
    url: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def addresses(corral: CorralProcess) -> list[str]:
    """Where the llama-servers of this Corral listen, router and instances."""
    own = set(corral.llama_servers())
    argvs = [argv.split() for pid, _, argv in processes() if pid in own]
    ports = {argv[argv.index("--port") + 1] for argv in argvs if "--port" in argv}
    assert len(ports) >= 2, "a router and an instance"
    return [f"http://127.0.0.1:{port}" for port in sorted(ports)]


def key_of(corral: CorralProcess) -> str:
    """The key of this start, which only this user can read."""
    (pid, *_) = corral.routers()
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    (key,) = [e.partition("=")[2] for e in environment if e.startswith("LLAMA_API_KEY=")]
    assert len(key) >= 32
    return key


def test_the_list_of_routes_is_the_one_of_the_source() -> None:
    """Another pin may bring a route that nobody has looked at."""
    cache = (ROOT / "build/llama/current/CMakeCache.txt").read_text()
    (source,) = re.findall(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.+)$", cache, re.M)
    text = Path(source, "tools/server/server.cpp").read_text()
    methods = {"get": "GET", "post": "POST", "del": "DELETE"}
    assert {(methods[m], path) for m, path in REGISTERED.findall(text)} == set(routes())


def test_instances_are_closed_to_everybody_else(corral: CorralProcess) -> None:
    for address in addresses(corral):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            for method, path in routes():
                body = b"{}" if method == "POST" else None
                status, _ = ask(address + path.replace(":id_slot", "0"), method, body, **headers)
                # The list of models is public in llama-server, as is its health.
                public = path in ("/health", "/v1/health", "/models", "/v1/models")
                assert status == 401 or (public and method == "GET"), (address, method, path)


def test_what_could_do_harm_is_off_even_with_the_key(corral: CorralProcess) -> None:
    key = key_of(corral)
    for address in addresses(corral):
        for (method, path), statuses in OFF.items():
            body = b'{"model": "x", "filename": "x"}' if method == "POST" else None
            status, answer = ask(address + path, method, body, Authorization=f"Bearer {key}")
            assert status in (*statuses, 400), (address, method, path, status, answer)
            assert b'"success":true' not in answer.replace(b" ", b"")


PROMPT, KEY = "canary-prompt-7f3a", "canary-key-5d21-and-long-enough-for-a-key"


def bodies() -> list[tuple[str, Any]]:
    """Requests of every kind, good and bad, each of which holds the canary."""
    messages = [{"role": "user", "content": PROMPT}]
    part = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"http://{PROMPT}/"}}],
        }
    ]
    schema = {"type": "object", "properties": {PROMPT: {"type": "string", "format": "ipv6"}}}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {**schema, "required": [PROMPT]}},
    }
    return [
        ("/v1/chat/completions", {"messages": messages}),
        ("/v1/chat/completions", {"messages": messages, "stream": True}),
        ("/v1/chat/completions", {"messages": messages, "response_format": wanted}),
        ("/v1/chat/completions", {"messages": part}),
        ("/v1/chat/completions", {"messages": [{"role": PROMPT}]}),
        ("/v1/chat/completions", {"messages": PROMPT}),
        ("/v1/chat/completions", {"messages": messages, "temperature": PROMPT}),
        ("/v1/chat/completions", {"messages": messages, "model": PROMPT}),
        ("/v1/chat/completions", {"messages": messages, "tools": [{"type": PROMPT}]}),
        ("/v1/completions", {"prompt": PROMPT * 2000}),
        ("/v1/responses", {"input": PROMPT}),
        ("/v1/messages", {"messages": messages, "max_tokens": 5, "system": PROMPT}),
        ("/v1/embeddings", {"input": PROMPT, "model": "corral-tiny-embed"}),
        ("/tokenize", {"content": PROMPT}),
        ("/apply-template", {"messages": messages}),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """All that a run at debug level has written anywhere, and llama-server's key of that run."""
    variables = {"CORRAL_LOG_LEVEL": "debug", "CORRAL_API_KEYS": KEY}
    with CorralProcess(tmp_path_factory.mktemp("logged"), environment=variables) as corral:
        sent = {"Authorization": f"Bearer {KEY}", "Content_Type": "application/json"}
        for path, body in bodies():
            raw = json.dumps({"model": "corral-tiny", "max_tokens": 8, **body}).encode()
            ask(corral.root + path, "POST", raw, **sent)
        ask(corral.root + "/v1/models", "POST", f"{{{PROMPT}".encode(), **sent)
        ask(corral.root + "/v1/chat/completions", "POST", f'{{"x": {PROMPT}'.encode(), **sent)
        ask(corral.root + f"/v1/models?{PROMPT}", Authorization=f"Bearer {KEY}x")
        ask(corral.root + "/v1/models", x_api_key=KEY)
        key = key_of(corral)
        wait_for(
            "the log has the last request", 10, lambda: '"/v1/models"' in corral.log.read_text()
        )
        corral.stop()
        files = [corral.log, *(corral.data_dir / "logs").rglob("*")]
        text = "".join(path.read_text(errors="replace") for path in files if path.is_file())
    assert text.count('"message": "request"') >= len(bodies())
    return text, key


@pytest.mark.parametrize("canary", [PROMPT, KEY])
def test_no_log_holds_a_prompt_or_a_key_at_debug_level(
    logged: tuple[str, str], canary: str
) -> None:
    text, _ = logged
    assert [line[:300] for line in text.splitlines() if canary in line] == []


def test_no_log_holds_the_key_between_gateway_and_instance(logged: tuple[str, str]) -> None:
    text, key = logged
    assert key not in text
