"""Turns as OpenAI writes them, `{"role", "content", "tool_calls" …}`, read and written.

OpenAI, mlx-lm, TRL, Axolotl and Bedrock share this shape. They differ in the key for a turn's
weight and in whether tool arguments are JSON text or an object: that is the `Dialect`.
"""

import itertools
from typing import Any, NamedTuple

import msgspec

from corral.datasets.findings import Place, shown
from corral.datasets.rows import Content, Message, ToolCall
from corral.datasets.strict_json import encode, valid_object

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_PLAIN_ROLES = frozenset(("system", "developer", "user", "assistant"))
_LIKE_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}
_KEYS = frozenset(
    ("role", "content", "tool_calls", "tool_call_id", "name", "weight", "train", "function_call")
)


class Dialect(NamedTuple):
    """How a format writes turns."""

    weight_key: str | None = None
    arguments_as_object: bool = False
    holds_extra: bool = True


def read_turns(items: Any, place: Place, field: str = "messages") -> tuple[Message, ...]:
    """All turns of a list; one error for each that is bad."""
    if type(items) is not list or not items:
        found = "an empty list" if items == [] else shown(items)
        place.error(
            field, "bad_messages", f"found {found}; must be a list with at least one message"
        )
        return ()
    turns = []
    for number, item in enumerate(items):
        # The common turn, without tools, weight or name, needs none of the care below.
        if type(item) is dict and len(item) == 2:
            content = item.get("content")
            if type(content) is str and item.get("role") in _PLAIN_ROLES:
                turns.append(Message(item["role"], content))
                continue
        turn = _read_turn(item, place, field, number)
        if turn is not None:
            turns.append(turn)
    return tuple(turns)


def _read_turn(item: Any, place: Place, field: str, number: int) -> Message | None:
    here = f"{field}[{number}]"
    if not isinstance(item, dict):
        place.error(here, "wrong_type", f'found {shown(item)}; must be {{"role":…, "content":…}}')
        return None
    role = item.get("role")
    if role not in ROLES:
        _bad_role(role, "role" in item, place, here)
        return None
    calls = _read_calls(item, place, field, number)
    content = _read_content(item, bool(calls), place, here)
    extra = {key: value for key, value in item.items() if key not in _KEYS} or None
    return Message(
        "tool" if role == "function" else role,
        content,
        calls,
        _optional(item, "tool_call_id", place, here),
        _optional(item, "name", place, here),
        _read_weight(item, role, place, here),
        extra,
    )


def _bad_role(role: Any, given: bool, place: Place, here: str) -> None:
    like = _LIKE_ROLES.get(role) if isinstance(role, str) else None
    hint = f"; write {like!r}" if like else ""
    found = f"found {shown(role)}" if given else "missing"
    place.error(f"{here}.role", "bad_role", f"{found}; allowed: {', '.join(ROLES)}{hint}")


def _read_content(item: dict[str, Any], has_calls: bool, place: Place, here: str) -> Content:
    content = item.get("content")
    if type(content) is str:
        return content
    if content is None:
        if has_calls or isinstance(item.get("refusal"), str):
            return None
        what = "null" if "content" in item else "missing"
        place.error(
            f"{here}.content",
            "missing_content",
            f"{what}; only an assistant's tool call needs none",
        )
        return None
    if isinstance(content, list) and content and all(_is_part(part) for part in content):
        return content
    place.error(
        f"{here}.content",
        "bad_content",
        f'found {shown(content)}; allowed: text, or a list of parts {{"type":"text","text":…}}',
    )
    return None


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return False
    return part["type"] != "text" or isinstance(part.get("text"), str)


def _read_calls(
    item: dict[str, Any], place: Place, field: str, number: int
) -> tuple[ToolCall, ...]:
    calls = item.get("tool_calls")
    path: tuple[str | int, ...] = (field, number, "tool_calls")
    if calls is None and item.get("function_call") is not None:
        place.note(f"{field}[{number}].function_call", "old_call", "read as a tool call")
        call = _read_call(item["function_call"], None, place, (field, number, "function_call"))
        return (call,) if call else ()
    if calls is None or calls == []:
        return ()
    if not isinstance(calls, list):
        place.error(
            f"{field}[{number}].tool_calls", "wrong_type", f"found {shown(calls)}; must be a list"
        )
        return ()
    found = []
    for index, value in enumerate(calls):
        wrapped = isinstance(value, dict) and isinstance(value.get("function"), dict)
        inner = value["function"] if wrapped else value
        steps = (*path, index, "function") if wrapped else (*path, index)
        call = _read_call(inner, value.get("id") if isinstance(value, dict) else None, place, steps)
        if call:
            found.append(call)
    return tuple(found)


def _read_call(value: Any, id: Any, place: Place, path: tuple[str | int, ...]) -> ToolCall | None:
    here = _dotted(path)
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        place.error(
            f"{here}.name",
            "bad_tool_call",
            f'found {shown(value)}; must be {{"name":…, "arguments":…}}',
        )
        return None
    arguments = read_arguments(value.get("arguments"), place, (*path, "arguments"))
    return ToolCall(name, arguments, id if isinstance(id, str) else None)


def read_arguments(value: Any, place: Place, path: tuple[str | int, ...]) -> str:
    """The arguments of a call as JSON text, exactly as they stood where the container has that."""
    if isinstance(value, str):
        if not valid_object(value):
            place.error(
                _dotted(path),
                "bad_arguments",
                f"found {shown(value)}; must be JSON text of an object",
            )
        return value
    if isinstance(value, dict):
        return place.text_at(*path) or encode(value).decode()
    place.error(
        _dotted(path), "bad_arguments", f"found {shown(value)}; must be an object or its JSON text"
    )
    return "{}"


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def _optional(item: dict[str, Any], key: str, place: Place, here: str) -> str | None:
    value = item.get(key)
    if value is None or isinstance(value, str):
        return value
    place.error(f"{here}.{key}", "wrong_type", f"found {shown(value)}; must be text")
    return None


def _read_weight(item: dict[str, Any], role: str, place: Place, here: str) -> float | None:
    for key, allowed in (("weight", (0, 1)), ("train", (False, True))):
        value = item.get(key)
        if value is None:
            continue
        if value not in allowed or (key == "train") != isinstance(value, bool):
            expected = "0 or 1" if key == "weight" else "true or false"
            place.error(f"{here}.{key}", "bad_weight", f"found {shown(value)}; allowed: {expected}")
        elif role != "assistant":
            say = place.warning if value else place.note
            say(f"{here}.{key}", "weight_ignored", "only assistant turns are trained; not kept")
        else:
            return int(value)
    return None


def write_turns(turns: tuple[Message, ...], dialect: Dialect, place: Place) -> list[dict[str, Any]]:
    """The turns as dicts. Weights must have been looked after where the dialect has no key."""
    return [
        {"role": turn.role, "content": turn.content}
        if turn == Message(turn.role, turn.content)
        else _write_turn(turn, dialect, place, number)
        for number, turn in enumerate(turns)
    ]


def _write_turn(turn: Message, dialect: Dialect, place: Place, number: int) -> dict[str, Any]:
    item: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.name is not None:
        item["name"] = turn.name
    if turn.tool_calls:
        item["tool_calls"] = [
            _write_call(call, dialect, place, f"messages[{number}].tool_calls[{index}]")
            for index, call in enumerate(turn.tool_calls)
        ]
    if turn.tool_call_id is not None:
        item["tool_call_id"] = turn.tool_call_id
    if turn.weight is not None and dialect.weight_key:
        item[dialect.weight_key] = (
            bool(turn.weight) if dialect.weight_key == "train" else turn.weight
        )
    for key, value in (turn.extra or {}).items():
        if dialect.holds_extra:
            item[key] = value
        else:
            place.loss(
                f"messages[{number}].{key}", "lost_key", "no such key in the target's messages"
            )
    return item


def _write_call(call: ToolCall, dialect: Dialect, place: Place, here: str) -> dict[str, Any]:
    arguments: Any = call.arguments
    if dialect.arguments_as_object:
        arguments = raw_object(call.arguments, place, f"{here}.function.arguments")
    value = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **value} if call.id is not None else value


def raw_object(text: str, place: Place, field: str) -> msgspec.Raw:
    """JSON text to be written as an object, byte for byte unless it holds line breaks."""
    kept = text.strip()
    if "\n" in kept or "\r" in kept:
        kept = msgspec.json.format(kept, indent=-1)
    if kept != text:
        place.note(field, "respaced", "the spacing of the arguments' JSON text is not kept")
    return msgspec.Raw(kept.encode())


def with_call_ids(turns: tuple[Message, ...], place: Place) -> tuple[Message, ...]:
    """The turns with an id on every call and its result, as OpenAI requires; made where missing.

    A result without id belongs to the oldest unanswered call of its name, else to the oldest.
    """
    if not any(turn.tool_calls or turn.role == "tool" for turn in turns):
        return turns
    taken = {call.id for turn in turns for call in turn.tool_calls}
    fresh = (f"call_{number}" for number in itertools.count(1) if f"call_{number}" not in taken)
    result: list[Message] = []
    open_calls: list[ToolCall] = []
    for number, turn in enumerate(turns):
        if turn.tool_calls:
            calls = tuple(
                msgspec.structs.replace(call, id=next(fresh)) if call.id is None else call
                for call in turn.tool_calls
            )
            open_calls += calls
            turn = msgspec.structs.replace(turn, tool_calls=calls)
        elif turn.role == "tool":
            turn = _answer_to(turn, open_calls, number, place)
        result.append(turn)
    if None in taken:
        place.note("messages", "ids_made", "tool calls without id got one: call_1 …")
    return tuple(result)


def _answer_to(turn: Message, open_calls: list[ToolCall], number: int, place: Place) -> Message:
    if turn.tool_call_id is None:
        match = next((call for call in open_calls if call.name == turn.name), None)
        match = match or (open_calls[0] if open_calls else None)
        here = f"messages[{number}].tool_call_id"
        if match is None:
            place.loss(here, "no_call", "a tool result that no call is waiting for; has no id")
            return turn
        place.note(here, "ids_made", f"taken for the answer to {match.id!r}")
        turn = msgspec.structs.replace(turn, tool_call_id=match.id)
    open_calls[:] = [call for call in open_calls if call.id != turn.tool_call_id]
    return turn
