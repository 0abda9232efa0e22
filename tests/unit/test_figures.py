"""Figures out of answers, in the bytes that llama-server writes at the pinned commit."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.gateway.figures import HEAD, TAIL, Figures, of_stream, of_whole
from corral.gateway.sse import Dialect, EventStream, renaming

TIMINGS = (
    b'"timings":{"cache_n":9,"prompt_n":1,"prompt_ms":500.0,"prompt_per_token_ms":0.687,'
    b'"predicted_n":6,"predicted_ms":1500.0,"predicted_per_second":2820.07}'
)
USAGE = b'"usage":{"completion_tokens":6,"prompt_tokens":10,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":9}}'
RESPONSES_USAGE = b'"usage":{"input_tokens":10,"output_tokens":6,"total_tokens":16,"input_tokens_details":{"cached_tokens":9}}'
ANTHROPIC_USAGE = b'"usage":{"cache_read_input_tokens":9,"input_tokens":1,"output_tokens":6}'
TIMED = Figures(10, 9, 6, 0.5, 1.5)
COUNTED = Figures(10, 9, 6)
RENAME = renaming("base@1", "asked")

WHOLE = {
    "chat": (
        b'{"choices":[{"message":{"content":"hi"}}],' + USAGE + b',"id":"c",' + TIMINGS + b"}",
        TIMED,
    ),
    "responses": (b'{"id":"r","status":"completed",' + RESPONSES_USAGE + b"}", COUNTED),
    "anthropic": (
        b'{"content":[{"type":"tool_use","input":{"usage":{"output_tokens":99}}}],'
        + ANTHROPIC_USAGE
        + b"}",
        COUNTED,
    ),
    "infill": (b'{"content":"x","tokens_predicted":6,' + TIMINGS + b"}", TIMED),
    "embeddings": (
        b'{"model":"m","object":"list","usage":{"prompt_tokens":7,"total_tokens":7},"data":['
        + b"0.5," * 9000
        + b"1]}",
        Figures(7),
    ),
    "tokenize": (b'{"tokens":[1,2]}', None),
    "count_tokens": (b'{"input_tokens":4}', None),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers(name: str) -> None:
    raw, figures = WHOLE[name]
    assert of_whole(raw) == figures


STREAMS: dict[str, tuple[Dialect, bytes, Figures]] = {
    "chat": (
        "openai",
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[],'
        + TIMINGS
        + b"}\n\ndata: [DONE]\n\n",
        TIMED,
    ),
    "chat with usage": (
        "openai",
        b'data: {"choices":[]}\n\ndata: {"choices":[],'
        + USAGE
        + b","
        + TIMINGS
        + b"}\n\ndata: [DONE]\n\n",
        TIMED,
    ),
    "responses": (
        "responses",
        b'event: response.created\ndata: {}\n\nevent: response.completed\ndata: {"response":{'
        + RESPONSES_USAGE
        + b"},"
        + TIMINGS
        + b"}\n\n",
        TIMED,
    ),
    "anthropic": (
        "anthropic",
        b'event: message_start\ndata: {"message":{"usage":{"cache_read_input_tokens":9,"input_tokens":1,'
        b'"output_tokens":0}}}\n\nevent: message_delta\ndata: {"usage":{"output_tokens":6}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        COUNTED,
    ),
    "infill": (
        "native",
        b'data: {"content":"a","stop":false}\n\ndata: {"stop":true,' + TIMINGS + b"}\n\n",
        TIMED,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("at_a_time", ["all at once", "event by event", "in small pieces"])
def test_streams(name: str, at_a_time: str) -> None:
    dialect, raw, figures = STREAMS[name]
    events = EventStream(dialect, RENAME)
    if at_a_time == "event by event":
        pieces = [event + b"\n\n" for event in raw.split(b"\n\n") if event]
    else:
        size = len(raw) if at_a_time == "all at once" else 50
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert b"".join(events.feed(piece) for piece in pieces) == raw
    assert events.figures() == figures


def test_a_long_stream_before_the_end_changes_nothing() -> None:
    events = EventStream("openai", RENAME)
    for _ in range(1000):
        events.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    events.feed(b"data: {" + USAGE + b"," + TIMINGS + b"}\n\n")
    events.feed(b"data: [DONE]\n\n")
    assert events.figures() == TIMED


def test_a_broken_stream_counts_what_came_and_says_so() -> None:
    events = EventStream("openai", RENAME)
    assert events.figures() is None
    for _ in range(3):
        events.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    assert events.figures() == Figures(generated=3, complete=False)


def test_a_broken_anthropic_stream_knows_its_prompt() -> None:
    first = STREAMS["anthropic"][1].partition(b"event: message_delta")[0]
    assert of_stream(first, first, 1, complete=False) == Figures(10, 9, 1, complete=False)


def test_two_answers_to_one_request_add_up() -> None:
    assert Figures(20, 18, 12, 0.5, 1.5) == TIMED + COUNTED
    assert not (TIMED + Figures(complete=False)).complete


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b'"usage":{', b'"timings":{"prompt_ms":null,']))
def test_no_bytes_make_it_fail(noise: bytes, key: bytes) -> None:
    for raw in (noise, key, key + noise, noise + key + noise, key + b'"input_tokens":"x"}'):
        of_whole(raw)
        of_stream(raw, raw, 1, complete=True)


@settings(max_examples=60)
@given(st.text(max_size=40), st.integers(0, 3 * TAIL))
def test_what_a_model_writes_is_never_taken_for_figures(text: str, length: int) -> None:
    content = text + '"usage":{"prompt_tokens":77}' + "x" * length
    message: dict[str, Any] = {"choices": [{"message": {"content": content}}]}
    said = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    assert of_whole(said) is None
    assert of_whole(said[:-1] + b"," + USAGE + b"," + TIMINGS + b"}") == TIMED


def test_head_and_tail_are_wide_enough() -> None:
    """A name of a model may be long; the figures themselves take some hundred bytes."""
    assert len(USAGE + TIMINGS) < TAIL / 4
    assert HEAD >= 512
