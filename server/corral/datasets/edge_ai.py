"""A catalogue record as the conversation in which FOLIO's edge-ai agent makes it.

The agent gives its model two tools and lets it answer with calls only (docs/edge-ai.md): first
`retrieve_reference_data` once for each id that the record needs, all in one turn, then
`final_result` with the record as JSON text. Pure; records come in with names where ids will be.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

LOOK_UP, FINAL = "retrieve_reference_data", "final_result"
# What edge-ai looks up; other keys go into the record as they are.
ID_KEYS = ("instanceTypeId", "contributorNameTypeId", "contributorTypeId")
# edge-ai asks for it and does not read it.
MODEL_INFO: dict[str, Any] = {"model_name": "gpt-4o", "messages": []}
SYSTEM = (
    "You catalogue for a library and add nothing that was not said. From a sentence, make a FOLIO "
    f"Inventory Instance record. The ids of {', '.join(ID_KEYS)} come from `{LOOK_UP}`.\n"
)

# The id of a name in a table of reference data; "" where there is none.
Ids = Callable[[str, str], str]


def tools() -> list[dict[str, Any]]:
    """The two tools as the agent sends them, key order included."""
    asked = {"lookup_type": {"type": "string"}, "value": {"type": "string"}}
    record = {"anyOf": [{"type": "string"}, {"additionalProperties": True, "type": "object"}]}
    info = {"model_name": {"type": "string"}, "messages": {"items": {}, "type": "array"}}
    closed = {"type": "object", "additionalProperties": False}
    look_up = {"additionalProperties": False, "properties": asked, "required": [*asked], "type": "object"}  # fmt: skip
    final = {
        "properties": {"model_info": {"$ref": "#/$defs/AIModelInfo"}, "record": record},
        "required": ["model_info", "record"], **closed,
        "$defs": {"AIModelInfo": {"properties": info, "required": [*info], **closed}},
    }  # fmt: skip
    return [
        _tool(LOOK_UP, "Retrieve reference data from FOLIO Inventory API based on lookup type and value.", look_up),
        _tool(FINAL, "The final response which ends this conversation", final),
    ]  # fmt: skip


def _tool(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def look_ups(value: Any) -> list[tuple[str, str]]:
    """Key and name of every id that the record needs, in its order, each once."""
    found: dict[tuple[str, str], None] = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            wanted = [(key, str(inner))] if key in ID_KEYS and inner else look_ups(inner)
            found.update(dict.fromkeys(wanted))
    elif isinstance(value, list):
        found.update(dict.fromkeys(pair for inner in value for pair in look_ups(inner)))
    return list(found)


def with_ids(value: Any, ids: Ids) -> Any:
    """The record with ids for names; a key without an id is left out, for FOLIO refuses it empty."""
    if isinstance(value, list):
        return [with_ids(inner, ids) for inner in value]
    if not isinstance(value, dict):
        return value
    filled = {
        key: (ids(key, str(inner)) if inner else "") if key in ID_KEYS else with_ids(inner, ids)
        for key, inner in value.items()
    }
    return {key: inner for key, inner in filled.items() if key not in ID_KEYS or inner}


def random_ids(rng: Random) -> Ids:
    """A table that gives every name an id of its own: a model that trains on it learns to copy ids, not to know them.
    Not of one UUID version only: a digit that is always the same could be known as well."""
    table: dict[tuple[str, str], str] = {}

    def ids(key: str, name: str) -> str:
        return table.setdefault((key, name), str(UUID(int=rng.getrandbits(128))))

    return ids


def chat_row(system: str, sentence: str, record: dict[str, Any], ids: Ids) -> dict[str, Any]:
    """An OpenAI chat row: the whole conversation that ends with this record; a record that needs no
    id is given in the first turn."""
    asked = look_ups(record)
    text = _json(with_ids(record, ids))
    calls = [
        _call(f"call_{n}", LOOK_UP, {"lookup_type": key, "value": name})
        for n, (key, name) in enumerate(asked, 1)
    ]
    final = _call(f"call_{len(asked) + 1}", FINAL, {"model_info": MODEL_INFO, "record": text})
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": sentence},
    ]
    if calls:
        messages.append(_assistant(calls))
    messages += [
        {"role": "tool", "tool_call_id": call["id"], "content": ids(key, name)}
        for call, (key, name) in zip(calls, asked, strict=True)
    ]
    return {"messages": [*messages, _assistant([final])], "tools": tools()}


def _json(value: Any) -> str:
    """JSON with a blank inside the brackets of a list. Without it `"}]` and `": [{"`, quotes escaped, are one token
    each for the bundled base, which met them never in its pretraining and so cannot tell them apart."""
    if isinstance(value, list) and value:
        return f"[ {', '.join(map(_json, value))} ]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {_json(v)}" for key, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    return json.dumps(value, ensure_ascii=False)


def _call(id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(arguments, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def _assistant(calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": calls}
