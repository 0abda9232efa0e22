"""llama-server's errors: whose fault, which status, which field."""

import json

import pytest

from corral.errors import BadRequest, NotReady, UpstreamError
from corral.gateway.upstream_errors import translate, translate_event


def said(message: str, kind: str = "server_error", code: int = 500) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "message", "param"),
    [
        (400, "Field 'temperature': type must be number, but is string", "temperature"),
        (400, "'messages' is required", "messages"),
        (500, "Failed to parse tools: Missing tool type; tools = [\n  1\n]", "tools"),
        (500, "[json.exception.type_error.302] type must be string", None),
        (500, "image input is not supported - hint: you may need to provide the mmproj", None),
        (501, "This server does not support embeddings", None),
        (500, "vector::_M_range_check: __n (which is 99) >= this->size() (which is 3)", None),
    ],
)
def test_the_callers_mistakes_are_400(status: int, message: str, param: str | None) -> None:
    error = translate(status, said(message))
    assert isinstance(error, BadRequest)
    assert error.param == param
    assert "; tools =" not in error.message


def test_a_prompt_too_long_has_the_code_that_clients_know() -> None:
    error = translate(400, said("request (9 tokens) exceeds", "exceed_context_size_error"))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    error = translate(500, said("input (9 tokens) is too large to process. increase the batch"))
    assert (error.status, error.code) == (400, "context_length_exceeded")


def test_the_field_that_is_too_long_is_that_of_the_route() -> None:
    error = translate(400, said("too long", "exceed_context_size_error"), "prompt")
    assert error.param == "prompt"


def test_an_answer_that_breaks_its_grammar_is_not_the_callers_fault() -> None:
    error = translate(500, said("The model produced output that does not match the expected form"))
    assert (error.status, error.code) == (502, "bad_output")


def test_the_parsers_own_name_is_left_out() -> None:
    raw = said("Field 'temperature': [json.exception.type_error.302] type must be number")
    assert translate(400, raw).message == "Field 'temperature': type must be number"


def test_a_model_that_does_not_load_is_told() -> None:
    error = translate(500, said("model name=x@1 failed to load"))
    assert (error.status, error.code) == (502, "model_load_failed")
    assert "x@1" in error.message


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (503, said("Loading model", "unavailable_error"), NotReady),
        (500, b"proxy error: Failed to read connection", UpstreamError),
        (500, said("failed to decode, ret = -1"), UpstreamError),
        (401, said("Invalid API Key"), UpstreamError),
        (500, b"", UpstreamError),
        (500, b"[1]", UpstreamError),
        (500, b'{"error": "text"}', UpstreamError),
        (302, b"<html>", UpstreamError),
    ],
)
def test_the_servers_failures_are_5xx(status: int, raw: bytes, kind: type[UpstreamError]) -> None:
    error = translate(status, raw)
    assert type(error) is kind
    assert error.message


def test_what_helps_to_try_again_says_when() -> None:
    assert translate(503, said("Loading model")).headers["Retry-After"]
    assert translate(500, b"proxy error: x").headers["Retry-After"]


def test_an_error_event_has_its_status_inside() -> None:
    assert isinstance(translate_event(said("x must be y", code=400)), BadRequest)
    assert isinstance(translate_event(b"nonsense"), UpstreamError)
