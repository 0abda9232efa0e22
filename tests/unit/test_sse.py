"""Streams as bytes: whatever the chunks, the events come out whole and renamed."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.gateway.sse import Dialect, EventStream, error_event, renaming

RENAME = renaming("base@1", 'asked "name"')
CHAT = (
    b'data: {"choices":[{"delta":{"content":"a"}}],"model":"base@1"}\n\n'
    b":\n\n"
    b'data: {"choices":[{"delta":{"content":"\\"model\\":\\"base@1\\" data: [DONE]"}}],"model":"base@1"}\n\n'
    b"data: [DONE]\n\n"
)
RENAMED = (
    b'data: {"choices":[{"delta":{"content":"a"}}],"model":"asked \\"name\\""}\n\n'
    b":\n\n"
    b'data: {"choices":[{"delta":{"content":"\\"model\\":\\"base@1\\" data: [DONE]"}}],'
    b'"model":"asked \\"name\\""}\n\n'
    b"data: [DONE]\n\n"
)


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(CHAT)), max_size=8))
def test_however_the_bytes_arrive_the_result_is_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CHAT)]
    events = EventStream("openai", RENAME)
    out = b"".join(events.feed(CHAT[a:b]) for a, b in pairwise(edges))
    assert out == RENAMED
    assert events.complete


def test_only_whole_events_come_out() -> None:
    events = EventStream("openai", RENAME)
    assert events.feed(b"data: 1\n") == b""
    assert events.feed(b"\ndata: 2") == b"data: 1\n\n"
    assert events.feed(b"\n\n") == b"data: 2\n\n"


@settings(max_examples=40)
@given(st.text())
def test_what_a_model_writes_is_never_changed(text: str) -> None:
    """Not even a text that is itself the sequence that is replaced."""
    for content in (text, '"model":"base@1"', text + '"model":"base@1"' + text):
        raw = json.dumps({"content": content, "model": "x"}, separators=(",", ":")).encode()
        events = EventStream("openai", RENAME)
        out = events.feed(b"data: " + raw + b"\n\n")
        assert json.loads(out[6:])["content"] == content


@pytest.mark.parametrize(
    ("dialect", "last", "complete"),
    [
        ("openai", b"data: [DONE]\n\n", True),
        ("openai", b'data: {"content":"data: [DONE]"}\n\n', False),
        ("responses", b"event: response.completed\ndata: {}\n\n", True),
        ("responses", b"event: response.output_text.done\ndata: {}\n\n", False),
        ("anthropic", b"event: message_stop\ndata: {}\n\n", True),
        ("anthropic", b"event: message_delta\ndata: {}\n\n", False),
        ("native", b'data: {"content":"","stop":true}\n\n', True),
        ("native", b'data: {"content":"x","stop":false}\n\n', False),
    ],
)
def test_how_each_dialect_ends(dialect: Dialect, last: bytes, complete: bool) -> None:
    events = EventStream(dialect, RENAME)
    events.feed(b"data: {}\n\n" + last)
    assert events.complete is complete


def test_what_the_router_appends_when_an_instance_dies_is_not_passed_on() -> None:
    events = EventStream("openai", RENAME)
    out = events.feed(b'data: {"a":1}\n\ndata: {"ha')
    out += events.feed(b"proxy error: Failed to read connection")
    assert out == b'data: {"a":1}\n\n'
    assert not events.complete


@pytest.mark.parametrize(
    ("dialect", "event"),
    [
        ("openai", b'data: {"error":{"message":"x"}}\n\n'),
        ("anthropic", b'event: error\ndata: {"error":{"message":"x"}}\n\n'),
    ],
)
def test_an_error_of_llama_server_is_kept_back_for_translation(
    dialect: Dialect, event: bytes
) -> None:
    events = EventStream(dialect, RENAME)
    assert events.feed(b"data: 1\n\n" + event) == b"data: 1\n\n"
    assert events.error is not None
    assert json.loads(events.error) == {"error": {"message": "x"}}


def test_the_error_event_of_each_dialect() -> None:
    body = {"error": {"message": "m"}}
    assert error_event("openai", body) == b'data: {"error": {"message": "m"}}\n\n'
    assert error_event("anthropic", body).startswith(b'event: error\ndata: {"type": "error", ')
