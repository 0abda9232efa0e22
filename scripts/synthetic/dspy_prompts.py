"""Examples in the prompt formats of DSPy's ChatAdapter and JSONAdapter (3.4), so that a DSPy program gets parseable answers."""

import json
from random import Random
from typing import Any

from .records import LISTS, Fact, Records
from .values import Values

NOTES = {
    "int": "        # note: the value you produce must be a single int value",
    "float": "        # note: the value you produce must be a single float value",
    "bool": "        # note: the value you produce must be True or False",
    "list[str]": '        # note: the value you produce must adhere to the JSON schema: {"type": "array", "items": {"type": "string"}}',
    "str": "",
}
OBJECTIVES = (
    "Extract the facts.",
    "Extract the {outs} from the {ins}.",
    "Given the fields `{ins}`, produce the fields {outs}.",
)
INPUTS = ("text", "passage", "document", "input", "note", "request")


def draw(rng: Random, values: Values, records: Records) -> list[dict[str, Any]]:
    """One conversation: system prompt of an adapter, sometimes with a demonstration, a request, its answer."""
    fields = [f for f in records.domain() if not f.kind.startswith("group:")][:5]
    while not fields:
        fields = [f for f in records.domain() if not f.kind.startswith("group:")][:5]
    source = rng.choice([name for name in INPUTS if name not in {f.name for f in fields}])
    rows = [
        tuple(records.fact(f, may_miss=False) for f in fields)
        for _ in range(rng.choice((1, 1, 1, 2)))
    ]
    kinds = {fact.field.name: _kind(fact.value) for fact in rows[0]}
    adapter = _chat if rng.random() < 0.6 else _json
    goal = rng.choice(OBJECTIVES).format(ins=source, outs=", ".join(f"`{k}`" for k in kinds))
    messages = [{"role": "system", "content": adapter(source, kinds, goal)}]
    for i, row in enumerate(rows):
        last = i == len(rows) - 1
        ask = _ask_chat(kinds) if adapter is _chat else _ask_json(kinds)
        request = f"[[ ## {source} ## ]]\n{records.text(row)}" + (f"\n\n{ask}" if last else "")
        answer = _answer_chat(row) if adapter is _chat else _answer_json(row, rng)
        messages += [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
    return messages


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "list[str]"
    return type(value).__name__


def _head(source: str, kinds: dict[str, str]) -> str:
    outs = "\n".join(
        f"{i}. `{name}` ({kind}): " for i, (name, kind) in enumerate(kinds.items(), 1)
    ).rstrip()
    return (
        f"Your input fields are:\n1. `{source}` (str):\nYour output fields are:\n{outs}\n"
        "All interactions will be structured in the following way, with the appropriate values filled in.\n\n"
    )


def _chat(source: str, kinds: dict[str, str], goal: str) -> str:
    blocks = [f"[[ ## {source} ## ]]\n{{{source}}}"]
    blocks += [f"[[ ## {name} ## ]]\n{{{name}}}{NOTES[kind]}" for name, kind in kinds.items()]
    shape = "\n\n".join([*blocks, "[[ ## completed ## ]]"])
    return f"{_head(source, kinds)}{shape}\nIn adhering to this structure, your objective is: \n        {goal}"


def _json(source: str, kinds: dict[str, str], goal: str) -> str:
    shape = json.dumps({name: f"{{{name}}}{NOTES[kind]}" for name, kind in kinds.items()}, indent=2)
    return (
        f"{_head(source, kinds)}Inputs will have the following structure:\n\n[[ ## {source} ## ]]\n{{{source}}}\n\n"
        f"Outputs will be a JSON object with the following fields.\n\n{shape}\n"
        f"In adhering to this structure, your objective is: \n        {goal}"
    )


def _typed(kind: str) -> str:
    return "" if kind == "str" else f" (must be formatted as a valid Python {kind})"


def _ask_chat(kinds: dict[str, str]) -> str:
    named = [f"`[[ ## {name} ## ]]`{_typed(kind)}" for name, kind in kinds.items()]
    listed = ", then ".join([f"starting with the field {named[0]}", *named[1:]])
    return f"Respond with the corresponding output fields, {listed}, and then ending with the marker for `[[ ## completed ## ]]`."


def _ask_json(kinds: dict[str, str]) -> str:
    named = [f"`{name}`{_typed(kind)}" for name, kind in kinds.items()]
    return f"Respond with a JSON object in the following order of fields: {', then '.join(named)}."


def _answer_chat(row: tuple[Fact, ...]) -> str:
    blocks = [f"[[ ## {fact.field.name} ## ]]\n{_plain(fact)}" for fact in row]
    return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def _plain(fact: Fact) -> str:
    if fact.field.kind in LISTS:
        return json.dumps(fact.value, ensure_ascii=False)
    return str(fact.value)


def _answer_json(row: tuple[Fact, ...], rng: Random) -> str:
    indent = 2 if rng.random() < 0.7 else None
    return json.dumps(
        {fact.field.name: fact.value for fact in row}, ensure_ascii=False, indent=indent
    )
