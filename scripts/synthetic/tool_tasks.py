"""Examples of tool use: the right call at once, several calls in a turn, look-ups whose results go into a last call."""

import json
from random import Random
from typing import Any

from .records import INNER_KEYS, LISTS, Fact, Records
from .values import Values

VERBS = "create find save get list register update send look_up retrieve search store book order report final".split()
THINGS = "record item customer reference ticket note entry invoice place person file room result type message code".split()
# Objects that an agent's last call has beside its record.
ABOUT = ("info", "meta", "origin", "model_info")
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def draw(
    rng: Random, values: Values, records: Records
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One conversation with its tools: a plain call, a look-up and then a call, or an answer without a tool."""
    kind = rng.random()
    if kind < 0.55:
        return _plain(rng, values, records)
    if kind < 0.9:
        return _look_up(rng, values, records)
    return _no_call(rng, values, records)


def _tool(name: str, properties: dict[str, Any], rng: Random, values: Values) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
    if rng.random() < 0.4:
        parameters["additionalProperties"] = False
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if rng.random() < 0.7:
        function = {
            "name": name,
            "description": values.sentence_case(values.phrase(2, 6, "en")) + ".",
            "parameters": parameters,
        }
    return {"type": "function", "function": function}


def _sayable(fact: Fact) -> bool:
    """Whether the fact is in the text, whole: a call has no argument for what is not."""
    unsaid = isinstance(fact.value, dict) and None in fact.value.values()
    return fact.value not in (None, []) and not unsaid


def _name(rng: Random) -> str:
    return f"{rng.choice(VERBS)}_{rng.choice(THINGS)}"


def _names(rng: Random, count: int) -> list[str]:
    names: set[str] = set()
    while len(names) < count:
        names.add(_name(rng))
    return rng.sample(sorted(names), count)


def _schema_of(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of(value[0]) if value else {"type": "string"}}
    if isinstance(value, dict):
        return {"type": "object", "properties": {k: _schema_of(v) for k, v in value.items()}}
    return {"type": JSON_TYPES[type(value)]}


def _as_generated(parameters: dict[str, Any]) -> None:
    """Rewrite a schema as pydantic writes it: objects by `$ref`, a record as a text or an object, an open list."""
    named = dict[str, Any]()
    for key, schema in parameters["properties"].items():
        if key == "record":
            parameters["properties"][key] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
        elif schema["type"] == "object":
            for inner in schema["properties"].values():
                inner |= {"items": {}} if inner["type"] == "array" else {}
            named[key.capitalize()] = schema | {"required": list(schema["properties"])}
            parameters["properties"][key] = {"$ref": f"#/$defs/{key.capitalize()}"}
    if named:
        parameters["$defs"] = named


def _in_objects(rng: Random, value: Any) -> Any:
    """A list of texts as a list of objects, a group as a list of one; all else as it is."""
    if isinstance(value, list):
        inner = rng.choice(INNER_KEYS)
        return [{inner: item} for item in value]
    return [value] if isinstance(value, dict) else value


def _call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


def _assistant(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def _distractors(rng: Random, values: Values, names: list[str]) -> list[dict[str, Any]]:
    return [
        _tool(
            name,
            {values.word("en"): {"type": "string"} for _ in range(rng.randint(1, 3))},
            rng,
            values,
        )
        for name in names
    ]


def _system(rng: Random, values: Values) -> list[dict[str, Any]]:
    text = rng.choice(
        (
            "You use tools.",
            "Call the right tool.",
            "You are an expert " + values.word("en") + ". Use the tools.",
        )
    )
    return [{"role": "system", "content": text}] if rng.random() < 0.5 else []


def _plain(
    rng: Random, values: Values, records: Records
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The arguments are the facts of a text; some calls carry the whole record as an object or as a JSON string."""
    facts: list[Fact] = []
    while not facts:
        facts = [f for f in records.record(records.domain()) if _sayable(f)]
    value = {f.field.name: f.value for f in facts}
    if rng.random() < 0.5:
        value = {name: _in_objects(rng, v) for name, v in value.items()}
    shape = rng.random()
    arguments: dict[str, Any] = value
    if shape < 0.2:
        arguments = {"record": json.dumps(value, ensure_ascii=False)}
    elif shape < 0.3:
        arguments = {"record": value}
    elif shape < 0.5:
        record = rng.choice((value, json.dumps(value, ensure_ascii=False)))
        name, listed = rng.choice(
            (("name", "list"), ("title", "messages"), ("model_name", "notes"))
        )
        arguments = {rng.choice(ABOUT): {name: "corral-tiny", listed: []}, "record": record}
    properties = {name: _schema_of(v) for name, v in arguments.items()}
    names = _names(rng, rng.choice((1, 2, 2, 3)))
    tools = [_tool(names[0], properties, rng, values), *_distractors(rng, values, names[1:])]
    if rng.random() < 0.5:
        _as_generated(tools[0]["function"]["parameters"])
    lead = (
        rng.choice(("", "", f"{names[0].replace('_', ' ')}: ", f"Use {names[0]}. "))
        if len(names) == 1
        else f"{names[0]}: "
    )
    messages = [
        *_system(rng, values),
        {"role": "user", "content": lead + records.text(tuple(facts))},
        _assistant(_call(1, names[0], arguments)),
    ]
    if rng.random() < 0.3:
        reply = rng.choice(("ok", "saved", "done", values.identifier()))
        messages += [
            {"role": "tool", "tool_call_id": "call_1", "content": reply},
            {"role": "assistant", "content": f"Done: {reply}"},
        ]
    return messages, rng.sample(tools, len(tools))


def _look_up(
    rng: Random, values: Values, records: Records
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """First one look-up for each name in the text, all in one turn; then one call that holds what came back."""
    finder, saver = _names(rng, 2)
    kind_key, value_key, id_key = rng.choice(
        (("type", "value", "id"), ("kind", "name", "code"), ("lookup_type", "value", "uuid"))
    )
    said = [f for f in records.record(records.domain()) if _sayable(f)]
    facts = [f for f in said if f.field.kind not in LISTS][:4]
    lists = [f for f in said if f.field.kind in LISTS][:1]
    facts = facts or [records.fact(records.domain()[0], may_miss=False)]
    looked = rng.sample(facts, rng.randint(1, min(3, len(facts))))
    calls = [
        _call(i, finder, {kind_key: f.field.name, value_key: str(f.value)})
        for i, f in enumerate(looked, 1)
    ]
    found = {
        f.field.name: values.uuid() if rng.random() < 0.6 else values.identifier() for f in looked
    }
    record = {
        f.field.name + ("Id" if f.field.name in found else ""): found.get(f.field.name, f.value)
        for f in facts
    }
    for listed in lists:
        # What one look-up found belongs into every object of the list.
        inner, (name, id_found) = rng.choice(INNER_KEYS), rng.choice(list(found.items()))
        record[listed.field.name] = [{inner: item, f"{name}Id": id_found} for item in listed.value]
    text = json.dumps(record, ensure_ascii=False)
    arguments: dict[str, Any] = rng.choice(
        ({"record": text}, record, {"info": {"model": "corral-tiny", id_key: []}, "record": text})
    )
    tools = [
        _tool(finder, {kind_key: {"type": "string"}, value_key: {"type": "string"}}, rng, values),
        _tool(saver, {k: _schema_of(v) for k, v in arguments.items()}, rng, values),
    ]
    messages: list[dict[str, Any]] = [
        {
            "role": "system",
            "content": f"Look up {' and '.join(found)} with {finder}, then call {saver}.",
        },
        {"role": "user", "content": records.text((*facts, *lists))},
        _assistant(*calls),
    ]
    messages += [
        {"role": "tool", "tool_call_id": f"call_{i}", "content": found[f.field.name]}
        for i, f in enumerate(looked, 1)
    ]
    return [*messages, _assistant(_call(9, saver, arguments))], tools


def _no_call(
    rng: Random, values: Values, records: Records
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tools are there, but the request is only to repeat a text."""
    text = values.title()
    tools = _distractors(rng, values, _names(rng, rng.randint(1, 2)))
    return [
        {"role": "user", "content": f"Repeat exactly: {text}"},
        {"role": "assistant", "content": text},
    ], tools
