"""What real clients send is made acceptable; what makes no sense is refused with its name."""

from typing import Any

import pytest

from corral.errors import BadRequest
from corral.gateway.compat import reconcile

F = {"type": "function", "function": {"name": "f", "parameters": {}}}
G = {"type": "function", "function": {"name": "g", "parameters": {}}}
FLAT = {"type": "function", "name": "f", "parameters": {}}


def after(**body: Any) -> dict[str, Any]:
    reconcile(body)
    return body


def test_nulls_are_as_good_as_absent() -> None:
    assert after(encoding_format=None, tools=None, stop=None, x=0) == {"x": 0}


def test_nulls_inside_messages_stay() -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": None}]
    assert after(messages=messages) == {"messages": messages}


def test_an_empty_turn_of_the_assistant_is_completed() -> None:
    assert after(messages=[{"role": "assistant"}])["messages"][0]["content"] is None


def test_broken_arguments_in_the_history_become_a_json_string() -> None:
    def resent(arguments: Any) -> Any:
        call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
        messages = [{"role": "assistant", "tool_calls": [call]}]
        return after(messages=messages)["messages"][0]["tool_calls"][0]["function"]["arguments"]

    assert resent('{"a": 1}') == '{"a": 1}'
    assert resent('{"a": "cut') == '"{\\"a\\": \\"cut"'
    assert resent(5) == 5


def test_histories_of_responses_are_completed() -> None:
    given = [
        {"role": "user", "content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call_output", "call_id": "1", "output": ""},
    ]
    assert after(input=given)["input"] == [
        {"role": "user", "content": "x", "type": "message"},
        {"type": "function_call_output", "call_id": "1", "output": ""},
    ]
    assert after(input="text") == {"input": "text"}
    assert after(input=[[1, 2]]) == {"input": [[1, 2]]}


def test_no_messages_at_all_are_refused() -> None:
    with pytest.raises(BadRequest, match="at least one") as caught:
        after(messages=[])
    assert caught.value.param == "messages"


def test_nulls_inside_tools_go() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": None}, "strict": None}
    assert after(tools=[tool])["tools"] == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}])
def test_a_choice_without_tools_means_nothing(tools: dict[str, Any]) -> None:
    assert "tool_choice" not in after(tool_choice="required", **tools)


@pytest.mark.parametrize("choice", ["none", "auto", "required", "nonsense"])
def test_a_plain_choice_passes(choice: str) -> None:
    assert after(tools=[F, G], tool_choice=choice) == {"tools": [F, G], "tool_choice": choice}


@pytest.mark.parametrize(
    ("tools", "choice", "left"),
    [
        ([F, G], {"type": "function", "function": {"name": "f"}}, [F]),
        ([FLAT], {"type": "function", "name": "f"}, [FLAT]),
        ([F, G], {"type": "allowed_tools", "mode": "required", "tools": [{"name": "g"}]}, [G]),
        (
            [F, G],
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F, G]}},
            [F, G],
        ),
    ],
)
def test_a_named_choice_is_required_of_those_tools_alone(
    tools: Any, choice: Any, left: Any
) -> None:
    assert after(tools=tools, tool_choice=choice) == {"tools": left, "tool_choice": "required"}


def test_allowed_tools_are_optional_unless_required() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [F]}
    assert after(tools=[F, G], tool_choice=choice) == {"tools": [F], "tool_choice": "auto"}


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "missing"}},
        {"type": "function", "function": {}},
        {"type": "allowed_tools"},
        {"type": "allowed_tools", "allowed_tools": 5},
    ],
)
def test_a_choice_of_no_tool_is_refused(choice: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        after(tools=[F], tool_choice=choice)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("messages", "hi", "an array, not a string"),
        ("tools", {}, "an array, not an object"),
        ("stream", "yes", "true or false, not a string"),
        ("stream", 1, "true or false, not a number"),
        ("response_format", "json", "an object, not a string"),
        ("stop", 5, "a string or an array, not a number"),
        ("logit_bias", "x", "an object or an array, not a string"),
        ("stream_options", [], "an object, not an array"),
        ("text", "x", "an object, not a string"),
    ],
)
def test_wrong_types_that_llama_server_would_ignore(field: str, value: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        after(**{field: value})
    assert caught.value.param == field


def test_the_format_of_responses_becomes_that_of_chat() -> None:
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True}}
    schema = {"name": "n", "schema": {"a": 1}, "strict": True}
    expected = {"type": "json_schema", "json_schema": schema}
    assert after(text=text)["response_format"] == expected
    assert after(text={"format": {"type": "json_object"}})["response_format"] == {
        "type": "json_object"
    }


@pytest.mark.parametrize("text", [{}, {"format": None}, {"format": {"type": "text"}}])
def test_a_plain_format_of_responses_needs_nothing(text: Any) -> None:
    assert "response_format" not in after(text=text)
