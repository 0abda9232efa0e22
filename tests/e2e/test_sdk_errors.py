"""Mistakes as OpenAI's SDK sees them: the right exception class, `code`, `param` and a clear text."""

from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletion

HELLO = [{"role": "user", "content": "Hello"}]
LONG = "word " * 9000


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    body = {"model": "corral-tiny", "messages": HELLO, "max_tokens": 1, **fields}
    return client.post("/chat/completions", body=body, cast_to=ChatCompletion)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "Hello"),
        ("messages", []),
        ("temperature", "hot"),
        ("top_p", "all"),
        ("max_tokens", "many"),
        ("n", "two"),
        ("n", 0),
        ("seed", "one"),
        ("stream", "yes"),
        ("stop", 5),
        ("tools", {"type": "function"}),
        ("tool_choice", 1),
        ("response_format", "json"),
        ("model", 7),
        ("model", ""),
    ],
)
def test_a_wrong_type_names_the_field(client: OpenAI, field: str, value: Any) -> None:
    # A choice means nothing without tools.
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(BadRequestError) as raised:
        ask(client, **{"tools": tools, field: value})
    error = raised.value
    assert error.param == field
    assert field in error.message
    assert error.type == "invalid_request_error"
    assert error.code
    assert error.request_id


def test_a_missing_model_is_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as raised:
        client.post("/chat/completions", body={"messages": HELLO}, cast_to=ChatCompletion)
    assert raised.value.param == "model"


def test_a_schema_that_is_none_is_refused(client: OpenAI) -> None:
    schema = {"name": "x", "schema": {"type": "no-such-type"}}
    with pytest.raises(BadRequestError):
        ask(client, response_format={"type": "json_schema", "json_schema": schema})


def test_a_tool_that_is_not_there_cannot_be_chosen(client: OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    choice = {"type": "function", "function": {"name": "g"}}
    with pytest.raises(BadRequestError) as raised:
        ask(client, tools=tools, tool_choice=choice)
    assert raised.value.param == "tool_choice"
    assert "`f`" in raised.value.message


def test_an_image_is_refused_with_a_clear_error(client: OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(BadRequestError, match="image"):
        ask(client, messages=[{"role": "user", "content": [image]}])


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_longer_than_the_context(client: OpenAI, stream: bool) -> None:
    with pytest.raises(BadRequestError) as raised:
        ask(client, messages=[{"role": "user", "content": LONG}], stream=stream)
    assert raised.value.code == "context_length_exceeded"


@pytest.mark.parametrize("route", ["completions", "responses", "embeddings"])
def test_a_text_longer_than_the_context(client: OpenAI, route: str) -> None:
    model = "corral-tiny-embed" if route == "embeddings" else "corral-tiny"
    field = "prompt" if route == "completions" else "input"
    with pytest.raises(BadRequestError) as raised:
        client.post(f"/{route}", body={"model": model, field: LONG}, cast_to=object)
    assert raised.value.code == "context_length_exceeded"


def test_embeddings_of_a_model_that_makes_none(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as raised:
        client.embeddings.create(model="corral-tiny", input="x")
    assert raised.value.code


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/no/such", 404), ("GET", "/chat/completions", 405)]
)
def test_routes_that_do_not_exist(client: OpenAI, method: str, path: str, status: int) -> None:
    call = client.get if method == "GET" else client.post
    with pytest.raises(APIStatusError) as raised:
        call(path, cast_to=object)
    assert raised.value.status_code == status
    assert raised.value.code
    assert path in raised.value.message


def test_a_malformed_body_is_an_envelope_too(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as raised:
        client.post("/chat/completions", content=b'{"model": "corral-tiny", ', cast_to=object)
    assert raised.value.code == "invalid_json"
    with pytest.raises(NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-no-such")
