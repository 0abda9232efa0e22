"""Every shape of answer tells its tokens to Corral, on the real llama-server: read in the log's lines."""

import json
import time
import urllib.request
import uuid
from typing import Any

import pytest

from tests.e2e.corral_process import CorralProcess

MESSAGES = [{"role": "user", "content": "Repeat exactly: Hedgerow lanterns"}]
TOKENS = 5
BOUND = {"model": "corral-tiny", "temperature": 0, "ignore_eos": True}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": TOKENS}),
    "responses": ("/v1/responses", {"input": MESSAGES, "max_output_tokens": TOKENS}),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": TOKENS}),
    "completion": ("/v1/completions", {"prompt": "Repeat exactly", "max_tokens": TOKENS}),
}


def ask(corral: CorralProcess, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The answer's text, and the line that the log has of it."""
    request_id = f"req_{uuid.uuid4().hex}"
    headers = {"Content-Type": "application/json", "x-request-id": request_id}
    base = corral.url.removesuffix("/v1")
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for line in corral.log.read_text(errors="replace").splitlines():
            if request_id in line:
                found: dict[str, Any] = json.loads(line)
                return text, found
        time.sleep(0.05)
    raise AssertionError(f"the log has no line of {request_id}")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_written_is_counted(corral: CorralProcess, shape: str, stream: bool) -> None:
    path, asked = SHAPES[shape]
    text, line = ask(corral, path, {**BOUND, **asked, "stream": stream})
    assert line["generated_tokens"] == TOKENS
    assert 0 <= line["cached_tokens"] < line["prompt_tokens"]
    if not stream:
        usage = json.loads(text)["usage"]
        told = usage.get("prompt_tokens") or (
            usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
        )
        assert line["prompt_tokens"] == told


def test_the_same_prompt_counts_alike_in_every_shape(corral: CorralProcess) -> None:
    shapes = [SHAPES[name] for name in ("chat", "responses", "messages")]
    counts = {
        ask(corral, path, {**BOUND, **asked, "stream": stream})[1]["prompt_tokens"]
        for path, asked in shapes
        for stream in (False, True)
    }
    assert len(counts) == 1


def test_a_client_that_did_not_ask_for_usage_gets_none(corral: CorralProcess) -> None:
    path, asked = SHAPES["chat"]
    text, _ = ask(corral, path, {**BOUND, **asked, "stream": True})
    events = [json.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: {")]
    assert all("usage" not in event for event in events)


def test_embeddings_count_their_prompt(corral: CorralProcess) -> None:
    body = {"model": "corral-tiny-embed", "input": ["Hedgerow lanterns", "x " * 200]}
    text, line = ask(corral, "/v1/embeddings", body)
    assert line["prompt_tokens"] == json.loads(text)["usage"]["prompt_tokens"] > 200
    assert line["generated_tokens"] == 0


def test_what_writes_nothing_has_no_figures(corral: CorralProcess) -> None:
    _, line = ask(corral, "/tokenize", {"content": "Hedgerow"})
    assert "generated_tokens" not in line
