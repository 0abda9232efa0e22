"""Requests that real clients send and llama-server refuses or misreads, made acceptable. Pure.

Each rule is here because a client was seen to need it; all else passes untouched.
"""

import json
from collections.abc import Callable
from typing import Any

from corral.errors import BadRequest
from corral.gateway.body import kind_of

# llama-server ignores these fields when they have a wrong type, and answers as if they were not
# there. Types it refuses by itself are not listed.
TYPES: dict[str, tuple[type, ...]] = {
    "messages": (list,),
    "tools": (list,),
    "tool_choice": (str, dict),
    "response_format": (dict,),
    "stream": (bool,),
    "stream_options": (dict,),
    "stop": (str, list),
    "logit_bias": (dict, list),
    "text": (dict,),
}


def fields() -> dict[str, Any]:
    """TYPES as JSON schemas; null is "not set"."""
    words = {list: "array", dict: "object", str: "string", bool: "boolean"}
    found: dict[str, Any] = {
        name: {"type": [*(words[kind] for kind in types), "null"]} for name, types in TYPES.items()
    }
    found["messages"]["minItems"] = 1
    return found


def reconcile(body: dict[str, Any]) -> None:
    """Apply every rule to `body`, in place; BadRequest with `param` for a field of a wrong type."""
    _drop_nulls(body)
    _check_types(body)
    for keys, rule in RULES:
        if not keys.isdisjoint(body):
            rule(body)


def _drop_nulls(fields: dict[str, Any]) -> None:
    """A null means "not set" to OpenAI's SDKs; llama-server refuses it in several places."""
    for key in [key for key, value in fields.items() if value is None]:
        del fields[key]


def _check_types(body: dict[str, Any]) -> None:
    names = {list: "an array", dict: "an object", str: "a string", bool: "true or false"}
    for key, types in TYPES.items():
        if key in body and not isinstance(body[key], types):
            allowed = " or ".join(names[kind] for kind in types)
            raise BadRequest(f"`{key}` must be {allowed}, not {kind_of(body[key])}", param=key)


def _messages(body: dict[str, Any]) -> None:
    """An assistant's turn without content or calls, which agents resend, is an empty one."""
    messages = body.get("messages")
    if messages is None:
        return
    if not messages:
        raise BadRequest("`messages` must hold at least one message", param="messages")
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "assistant":
            message.setdefault("content", None)
            for call in message.get("tool_calls") or ():
                _whole_arguments(call)


def _whole_arguments(call: Any) -> None:
    """Arguments that are no JSON, which agents send back with a request to mend them, as a JSON
    string: llama-server refuses the whole history for them."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return
    try:
        json.loads(function["arguments"])
    except (ValueError, RecursionError):
        function["arguments"] = json.dumps(function["arguments"])


def _responses_input(body: dict[str, Any]) -> None:
    """Turns without `type`, the shape of OpenAI's own examples, and reasoning without content."""
    items = body.get("input")
    if not isinstance(items, list) or "messages" in body:
        return
    for item in items:
        if isinstance(item, dict) and "role" in item:
            item.setdefault("type", "message")
    body["input"] = [item for item in items if not _is_empty_reasoning(item)]


def _is_empty_reasoning(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "reasoning" and not item.get("content")


def _plain_tools(body: dict[str, Any]) -> None:
    """`description: null` and its like, which DSPy sends, inside a tool."""
    for tool in body.get("tools", ()):
        if isinstance(tool, dict):
            _drop_nulls(tool)
            if isinstance(tool.get("function"), dict):
                _drop_nulls(tool["function"])


def _tool_choice(body: dict[str, Any]) -> None:
    """Without tools a choice means nothing (LlamaIndex sends one). A named choice, which
    llama-server ignores, becomes "required" over that tool alone."""
    tools = body.get("tools")
    if not tools:
        body.pop("tool_choice", None)
        return
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return
    if choice.get("type") == "allowed_tools":
        _allow(body, tools, choice.get("allowed_tools", choice))
    elif "function" in choice or "name" in choice:
        name = _tool_name(choice)
        body["tools"] = _named(tools, [name])
        # Anthropic's clients name a tool with type "tool", and say "required" as "any".
        body["tool_choice"] = {"type": "any"} if choice.get("type") == "tool" else "required"
    elif choice.get("type") == "none":
        del body["tools"], body["tool_choice"]


def _allow(body: dict[str, Any], tools: list[Any], allowed: Any) -> None:
    listed = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(listed, list):
        raise BadRequest(
            "`tool_choice` of type allowed_tools needs a `tools` array", param="tool_choice"
        )
    body["tools"] = _named(tools, [_tool_name(tool) for tool in listed])
    body["tool_choice"] = "required" if allowed.get("mode") == "required" else "auto"


def _named(tools: list[Any], names: list[Any]) -> list[Any]:
    chosen = [tool for tool in tools if _tool_name(tool) in names]
    if not chosen:
        known = ", ".join(f"`{_tool_name(tool)}`" for tool in tools)
        raise BadRequest(
            f"`tool_choice` names {names}, but `tools` holds {known}", param="tool_choice"
        )
    return chosen


def _tool_name(tool: Any) -> Any:
    """Of chat's nested shape and of Responses' flat one."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name")


def _responses_format(body: dict[str, Any]) -> None:
    """The Responses API's `text.format`, which llama-server ignores, as chat's
    `response_format`, which it enforces there too."""
    wanted = body.get("text", {}).get("format")
    if not isinstance(wanted, dict) or "response_format" in body:
        return
    if wanted.get("type") == "json_schema":
        schema = {key: value for key, value in wanted.items() if key != "type"}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted.get("type") == "json_object":
        body["response_format"] = {"type": "json_object"}


def _wrapped_schema(body: dict[str, Any]) -> None:
    """A schema beside `type`, as llama.cpp's own guide has it, which llama-server passes over."""
    wanted = body.get("response_format")
    if (
        wanted
        and wanted.get("type") == "json_schema"
        and "json_schema" not in wanted
        and "schema" in wanted
    ):
        wanted["json_schema"] = {"schema": wanted.pop("schema")}


def _call_wins(body: dict[str, Any]) -> None:
    """Beside a `response_format` llama-server never lets the model call a tool. It goes where a call
    is demanded, and where it demands nothing: DSPy sends one without properties beside tools."""
    wanted = body.get("response_format")
    if not wanted or not body.get("tools") or body.get("tool_choice") == "none":
        return
    schema = wanted.get("json_schema")
    schema = schema.get("schema") if isinstance(schema, dict) else None
    empty = isinstance(schema, dict) and schema.get("properties") == {}
    if empty or body.get("tool_choice") == "required":
        del body["response_format"]


# Each with the fields without which it has nothing to do, in their order.
RULES: tuple[tuple[frozenset[str], Callable[[dict[str, Any]], None]], ...] = (
    (frozenset({"messages"}), _messages),
    (frozenset({"input"}), _responses_input),
    (frozenset({"tools"}), _plain_tools),
    (frozenset({"tools", "tool_choice"}), _tool_choice),
    (frozenset({"text"}), _responses_format),
    (frozenset({"response_format"}), _wrapped_schema),
    (frozenset({"response_format"}), _call_wins),
)
