"""The Responses API through OpenAI's SDK (what pydantic-ai and openai-agents use by default)."""

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseInputParam,
)
from pydantic import BaseModel

TEXT = "Hedgerow lanterns (Dublin)"
REPEAT = f"Repeat exactly: {TEXT}"
TOOL: FunctionToolParam = {
    "type": "function",
    "name": "find_note",
    "description": None,
    "parameters": {
        "type": "object",
        "properties": {"sender": {"type": "string"}, "receiver": {"type": "string"}},
        "required": ["sender", "receiver"],
        "additionalProperties": False,
    },
    "strict": True,
}
ASK = "find_note: Letter from Anna Berg; to Paul Meyer"
FOUND = {"sender": "Anna Berg", "receiver": "Paul Meyer"}
OPTIONAL = [
    "background",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
]


def test_a_response_has_every_required_field(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="corral-tiny", input=REPEAT, temperature=0
    )
    response = Response.model_validate_json(raw.text, strict=True)
    assert response.model == "corral-tiny"
    assert response.status == "completed"
    assert response.output_text == TEXT
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_response_that_was_cut_off_is_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model="corral-tiny", input="Hello", max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_events_are_numbered_and_end_with_the_whole_response(client: OpenAI) -> None:
    events = list(
        client.responses.create(model="corral-tiny", input=REPEAT, temperature=0, stream=True)
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.completed"
    assert "".join(deltas) == last.response.output_text == TEXT
    assert last.response.model == "corral-tiny"


def test_the_streaming_helper_gathers_the_response(client: OpenAI) -> None:
    with client.responses.stream(model="corral-tiny", input=REPEAT, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == TEXT


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "find_note"}])
def test_a_tool_is_called(client: OpenAI, choice: Any) -> None:
    response = client.responses.create(
        model="corral-tiny", input=ASK, tools=[TOOL], tool_choice=choice, temperature=0
    )
    (call,) = response.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "find_note"
    assert json.loads(call.arguments) == FOUND


def test_a_streamed_call_gathers_its_arguments(client: OpenAI) -> None:
    with client.responses.stream(
        model="corral-tiny", input=ASK, tools=[TOOL], tool_choice="required", temperature=0
    ) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_response().output
    assert {
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    } <= kinds
    assert isinstance(call, ResponseFunctionToolCall)
    assert json.loads(call.arguments) == FOUND


class Letter(BaseModel):
    """What a sentence about a letter says."""

    sender: str
    receiver: str


def test_a_text_format_binds_the_answer(client: OpenAI) -> None:
    response = client.responses.parse(
        model="corral-tiny",
        instructions='Schema: {"sender": "sender", "receiver": "receiver"}',
        input="Letter from Anna Berg; to Paul Meyer",
        text_format=Letter,
        temperature=0,
    )
    assert response.output_parsed == Letter(sender="Anna Berg", receiver="Paul Meyer")


INPUTS: dict[str, ResponseInputParam] = {
    "turns without a type": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
    ],
    "instructions in the input": [
        {"role": "developer", "content": "x"},
        {"role": "system", "content": [{"type": "input_text", "text": "y"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "z"}]},
    ],
    "a message that came from here": [
        {"role": "user", "content": "x"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "y", "annotations": []}],
        },
        {"role": "user", "content": "z"},
    ],
    "a call and its result": [
        {"role": "user", "content": "x"},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "1",
            "name": "find_note",
            "arguments": "{}",
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "1", "output": ""},
    ],
}


@pytest.mark.parametrize("items", INPUTS.values(), ids=INPUTS.keys())
def test_histories_as_clients_write_them_are_answered(
    client: OpenAI, items: ResponseInputParam
) -> None:
    response = client.responses.create(model="corral-tiny", input=items, max_output_tokens=1)
    assert response.usage is not None
    assert response.usage.output_tokens == 1


def test_null_means_not_set_for_every_optional_key(client: OpenAI) -> None:
    body: dict[str, Any] = {"model": "corral-tiny", "input": "x", **dict.fromkeys(OPTIONAL)}
    body["n_predict"] = 1
    assert client.post("/responses", body=body, cast_to=Response).status
