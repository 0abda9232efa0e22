"""The Responses API's shape, held against the SDK's own types."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from corral.gateway.responses_shape import ResponsesShape

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TEXT = {"type": "output_text", "annotations": [], "logprobs": [], "text": "hi"}
MESSAGE = {
    "type": "message",
    "status": "completed",
    "id": "msg_1",
    "content": [TEXT],
    "role": "assistant",
}
CALL = {
    "id": "fc_2",
    "type": "function_call",
    "status": "completed",
    "arguments": '{"a": 1}',
    "call_id": "call_2",
    "name": "f",
}
USAGE = {
    "input_tokens": 5,
    "output_tokens": 4,
    "total_tokens": 9,
    "input_tokens_details": {"cached_tokens": 2},
}
DONE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 7,
    "status": "completed",
    "model": "base@1",
    "output": [MESSAGE, CALL],
    "usage": USAGE,
}
BEGUN = {"id": "resp_1", "object": "response", "status": "in_progress"}
# What llama-server writes, event by event.
STREAM: list[dict[str, Any]] = [
    {"type": "response.created", "response": BEGUN},
    {"type": "response.in_progress", "response": BEGUN},
    {
        "type": "response.output_item.added",
        "item": {**MESSAGE, "content": [], "status": "in_progress"},
    },
    {
        "type": "response.content_part.added",
        "item_id": "msg_1",
        "part": {"type": "output_text", "text": ""},
    },
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "hi"},
    {
        "type": "response.output_item.added",
        "item": {**CALL, "arguments": "", "status": "in_progress"},
    },
    {"type": "response.function_call_arguments.delta", "item_id": "fc_2", "delta": '{"a": 1}'},
    {"type": "response.output_text.done", "item_id": "msg_1", "text": "hi"},
    {"type": "response.content_part.done", "item_id": "msg_1", "part": TEXT},
    {"type": "response.output_item.done", "item": MESSAGE},
    {"type": "response.output_item.done", "item": CALL},
    {"type": "response.completed", "response": DONE},
]


def raw(events: list[dict[str, Any]]) -> bytes:
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines).encode()


def shaped(request: dict[str, Any], limit: int | None = None) -> list[dict[str, Any]]:
    out = ResponsesShape(request, "asked", 7, limit).events(raw(STREAM)).decode()
    assert out.endswith("\n\n")
    events = []
    for block in out.split("\n\n")[:-1]:
        head, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        events.append(event)
    return events


def test_every_event_is_one_of_the_sdks() -> None:
    for event in shaped({}):
        EVENT.validate_json(json.dumps(event), strict=True)


def test_events_are_numbered_through_and_items_by_their_first_appearance() -> None:
    events = shaped({})
    assert [event["sequence_number"] for event in events] == list(range(len(STREAM) + 1))
    assert {e["output_index"] for e in events if e.get("item_id") == "msg_1"} == {0}
    assert {e["output_index"] for e in events if e.get("item_id") == "fc_2"} == {1}


def test_a_calls_arguments_are_ended_before_the_call() -> None:
    events = shaped({})
    kinds = [event["type"] for event in events]
    at = kinds.index("response.function_call_arguments.done")
    assert events[at]["arguments"] == '{"a": 1}'
    assert events[at + 1]["item"]["id"] == "fc_2"


def test_the_request_is_echoed_under_the_asked_name() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}, "strict": True}]
    request = {"tools": tools, "tool_choice": "required", "instructions": "i", "temperature": None}
    for response in (shaped(request)[0]["response"], shaped(request)[-1]["response"]):
        assert response["model"] == "asked"
        assert response["tools"] == tools
        assert response["tool_choice"] == "required"
        assert response["instructions"] == "i"
        assert response["parallel_tool_calls"] is True


@pytest.mark.parametrize(
    ("limit", "status"), [(4, "incomplete"), (5, "completed"), (None, "completed")]
)
def test_an_answer_as_long_as_it_may_be_is_incomplete(limit: int | None, status: str) -> None:
    last = shaped({}, limit)[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    whole = ResponsesShape({}, "asked", 7, limit).whole(json.dumps(DONE).encode())
    response = Response.model_validate_json(whole, strict=True)
    assert response.status == status
    assert (response.incomplete_details is not None) is (status == "incomplete")


def test_comments_pass() -> None:
    assert ResponsesShape({}, "asked", 7, None).events(b":\n\n") == b":\n\n"


def test_half_a_character_in_the_request_does_not_break_the_answer() -> None:
    shape = ResponsesShape({"instructions": "\ud800"}, "ft:x", 7, None)
    assert json.loads(shape.whole(json.dumps(DONE).encode()))["instructions"] == "?"
