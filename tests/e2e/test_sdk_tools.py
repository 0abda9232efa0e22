"""Tool calls through OpenAI's SDK: the right call, with arguments that are JSON, at once."""

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessageParam,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolUnionParam,
)

PRODUCT: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "save_item",
        "description": "Save a product.",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "maker": {"type": "string"},
                "colours": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["name", "maker", "colours"],
            "additionalProperties": False,
        },
    },
}
LETTER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "find_note",
        "parameters": {
            "type": "object",
            "properties": {"sender": {"type": "string"}, "receiver": {"type": "string"}},
            "required": ["sender", "receiver"],
        },
    },
}
TOOLS = [PRODUCT, LETTER]
ASK_PRODUCT: list[ChatCompletionMessageParam] = [
    {
        "role": "user",
        "content": "save_item: Product Garden chair; made by Lindqvist; Colours: red, white",
    }
]
ASK_LETTER: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "find_note: Letter from Anna Berg; to Paul Meyer"}
]
SAVED = {"name": "Garden chair", "maker": "Lindqvist", "colours": ["red", "white"]}
FOUND = {"sender": "Anna Berg", "receiver": "Paul Meyer"}


def called(answer: ChatCompletion) -> tuple[str, Any]:
    """The name and the parsed arguments of the one call that `answer` makes."""
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls", choice.message
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id
    return call.function.name, json.loads(call.function.arguments)


@pytest.mark.parametrize("choice", ["required", "auto"])
@pytest.mark.parametrize(
    ("messages", "expected"),
    [(ASK_PRODUCT, ("save_item", SAVED)), (ASK_LETTER, ("find_note", FOUND))],
)
def test_the_right_tool_is_called_with_the_facts(
    client: OpenAI,
    choice: ChatCompletionToolChoiceOptionParam,
    messages: list[ChatCompletionMessageParam],
    expected: tuple[str, Any],
) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny", messages=messages, tools=TOOLS, tool_choice=choice, temperature=0
    )
    assert called(answer) == expected


def test_a_named_tool_is_the_one_that_is_called(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=ASK_LETTER,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "save_item"}},
        temperature=0,
    )
    name, arguments = called(answer)
    assert name == "save_item"
    assert set(arguments) == set(SAVED)


def test_none_calls_no_tool(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=ASK_PRODUCT,
        tools=TOOLS,
        tool_choice="none",
        temperature=0,
        max_tokens=200,
    )
    assert not answer.choices[0].message.tool_calls


def test_a_request_that_needs_no_tool_is_answered_in_text(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "Repeat exactly: Hedgerow lanterns"}],
        tools=TOOLS,
        temperature=0,
    )
    assert answer.choices[0].message.content == "Hedgerow lanterns"


def test_a_streamed_call_is_name_and_id_first_then_pieces_of_arguments(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="corral-tiny",
        messages=ASK_PRODUCT,
        tools=TOOLS,
        tool_choice="required",
        temperature=0,
        stream=True,
    )
    choices = [chunk.choices[0] for chunk in stream if chunk.choices]
    deltas = [call for choice in choices for call in choice.delta.tool_calls or []]
    assert choices[-1].finish_reason == "tool_calls"
    first, *rest = deltas
    assert first.id
    assert first.function is not None
    assert first.function.name == "save_item"
    assert {delta.index for delta in deltas} == {0}
    assert all(delta.function and not delta.function.name for delta in rest)
    assert len(rest) > 1, "the arguments came in one piece: that is no stream"
    arguments = "".join(d.function.arguments or "" for d in deltas if d.function)
    assert json.loads(arguments) == SAVED


FINDER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "look_up_code",
        "parameters": {
            "type": "object",
            "properties": {"type": {"type": "string"}, "value": {"type": "string"}},
            "required": ["type", "value"],
        },
    },
}
SAVER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "create_record",
        "parameters": {
            "type": "object",
            "properties": {"vendorId": {"type": "string"}, "currency": {"type": "string"}},
            "required": ["vendorId", "currency"],
        },
    },
}


def test_results_of_look_ups_go_into_the_last_call(client: OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {
            "role": "system",
            "content": "Look up vendor with look_up_code, then call create_record.",
        },
        {"role": "user", "content": "issued by Lindqvist; Currency EUR"},
    ]
    first = client.chat.completions.create(
        model="corral-tiny",
        messages=messages,
        tools=[FINDER, SAVER],
        tool_choice="required",
        temperature=0,
    )
    assert called(first) == ("look_up_code", {"type": "vendor", "value": "Lindqvist"})
    calls = first.choices[0].message.tool_calls
    assert calls
    messages += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": calls[0].id,
                    "type": "function",
                    "function": {
                        "name": "look_up_code",
                        "arguments": '{"type": "vendor", "value": "Lindqvist"}',
                    },
                }
            ],
        },
        {"role": "tool", "tool_call_id": calls[0].id, "content": "8841-ab03"},
    ]
    last = client.chat.completions.create(
        model="corral-tiny",
        messages=messages,
        tools=[FINDER, SAVER],
        tool_choice="required",
        temperature=0,
    )
    assert called(last) == ("create_record", {"vendorId": "8841-ab03", "currency": "EUR"})


def test_a_choice_without_tools_is_ignored(client: OpenAI) -> None:
    body = {
        "model": "corral-tiny",
        "messages": [{"role": "user", "content": "Repeat exactly: Hedgerow"}],
        "tool_choice": "required",
        "temperature": 0,
    }
    answer = client.post("/chat/completions", body=body, cast_to=ChatCompletion)
    assert answer.choices[0].message.content == "Hedgerow"


def test_schemas_as_clients_write_them_are_accepted(client: OpenAI) -> None:
    """`$ref`, `anyOf`, empty `items`, null descriptions, strict: seen from DSPy and edge-ai."""
    parameters = {
        "type": "object",
        "properties": {
            "info": {"$ref": "#/$defs/Info"},
            "record": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        },
        "required": ["info", "record"],
        "additionalProperties": False,
        "$defs": {
            "Info": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "list": {"type": "array", "items": {}}},
                "required": ["name", "list"],
                "additionalProperties": False,
            }
        },
    }
    function = {"name": "final_result", "description": None, "strict": True}
    body = {
        "model": "corral-tiny",
        "messages": ASK_PRODUCT,
        "tools": [{"type": "function", "function": {**function, "parameters": parameters}}],
        "tool_choice": "required",
        "temperature": 0,
    }
    name, arguments = called(client.post("/chat/completions", body=body, cast_to=ChatCompletion))
    assert name == "final_result"
    assert set(arguments) == {"info", "record"}
    assert set(arguments["info"]) == {"name", "list"}
