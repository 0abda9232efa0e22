"""Structured output on the real llama-server: what it would do wrong in silence is refused or found out.

Each case here was seen to be answered with 200 and a wrong answer, or to end, fill or hang
llama-server, before Corral looked (docs/structured-output.md). The answers that are found out cannot
be right by chance: their schemas have no right answer that the grammar lets through.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from openai import APIError, BadRequestError, InternalServerError, OpenAI

from tests.e2e.corral_process import CorralProcess, wait_for

S = {"type": "string"}
# An answer cut off is not looked at, so the bundled model must come to an end: this it knows to answer.
SAY = [
    {
        "role": "user",
        "content": 'Extract the facts as JSON: {"a": "film"}\n\nFilm Hedgerow lanterns',
    }
]


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# The grammar gives two equal items, which the schema forbids.
HOPELESS = record(
    a={"type": "array", "items": {"enum": ["x"]}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
)
# The same for a tool that the bundled model calls of itself.
SAVE = record(name=S, maker=S, colours=HOPELESS["properties"]["a"])
ASK_SAVE = [
    {
        "role": "user",
        "content": "save item: Item: Garden chair. Maker: Lindqvist. Colours: x, x",
    }
]
UNCONSTRAINED = {
    "unanchored pattern": record(a={**S, "pattern": "[0-9]{12}"}),
    "shorthand in a pattern": record(a={**S, "pattern": r"^\d{12}$"}),
    "format": record(a={**S, "format": "ipv6"}),
    "unique items": HOPELESS,
    "exclusive bound": record(
        a={"type": "integer", "minimum": 1, "exclusiveMinimum": 5, "maximum": 5}
    ),
    "pattern and length": record(a={**S, "pattern": "^[A-Z]{9}$", "maxLength": 3}),
    "quotes in a pattern": record(a={**S, "pattern": '^"+$'}),
    "contradiction": {"allOf": [record(a={"const": "x"}), record(b={"const": "x"})]},
}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorralProcess]:
    """A Corral that asks once: a second, warmer try of a tiny model may be cut off instead."""
    folder = tmp_path_factory.mktemp("once")
    with CorralProcess(folder, environment={"CORRAL_STRUCTURED_RETRIES": "0"}) as process:
        yield process


def ask(corral: CorralProcess, path: str, **body: Any) -> tuple[int, Any]:
    sent = {"model": "corral-tiny", "max_tokens": 100, "temperature": 0, **body}
    request = urllib.request.Request(
        corral.root + path, json.dumps(sent).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def chat(corral: CorralProcess, schema: Any, **body: Any) -> tuple[int, Any]:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return ask(corral, "/v1/chat/completions", messages=SAY, response_format=wanted, **body)


@pytest.mark.parametrize("name", UNCONSTRAINED)
def test_what_the_grammar_leaves_open_is_found_out(corral: CorralProcess, name: str) -> None:
    schema = UNCONSTRAINED[name]
    status, answer = chat(corral, schema)
    error = answer.get("error", {"code": None})
    assert (status, error["code"]) == (502, "invalid_structured_output"), answer
    assert error["param"] == "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "x", "json_schema": HOPELESS}, "json_schema"),
        (
            "/v1/responses",
            {
                "input": "x",
                "text": {"format": {"type": "json_schema", "name": "a", "schema": HOPELESS}},
            },
            "response_format.json_schema.schema",
        ),
        (
            "/v1/chat/completions",
            {
                "messages": ASK_SAVE,
                "tools": [
                    {"type": "function", "function": {"name": "save_item", "parameters": SAVE}}
                ],
                "tool_choice": "required",
            },
            "tools[0].function.parameters",
        ),
        (
            "/v1/messages",
            {
                "messages": ASK_SAVE,
                "tools": [
                    {
                        "name": "save_item",
                        "description": "Save a product.",
                        "input_schema": SAVE,
                    }
                ],
                "tool_choice": {"type": "tool", "name": "save_item"},
                "max_tokens": 1000,
            },
            "tools[0].input_schema",
        ),
    ],
)  # fmt: skip
def test_every_api_finds_out(
    once: CorralProcess, path: str, body: dict[str, Any], param: str
) -> None:
    status, answer = ask(once, path, **body)
    error = answer.get("error", {"code": None, "param": None})
    assert (status, error["code"], error["param"]) == (
        502, "invalid_structured_output", param,
    ), answer  # fmt: skip


# Sent to llama-server itself, each of these ends it, fills the memory, or answers with anything.
REFUSED = {
    "range of items": record(a={"type": "array", "items": S, "minItems": 5, "maxItems": 2}),
    "range of a length": record(a={**S, "minLength": 5, "maxLength": 2}),
    "many stars in a row": record(a={**S, "pattern": "^" + "[a-z]*" * 222 + "$"}),
    "stars multiplied": record(a={**S, "pattern": "^([a-z]?){222}$"}),
    "range in a pattern": record(a={**S, "pattern": "^a{5,2}$"}),
    "long name": record(**{"_" * 30_000: S}),
    "reference to itself": {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"$ref": "#/$defs/x"}}},
    "count over 32 bits": record(a={"type": "array", "maxItems": 2**40}),
    "not": record(a={"not": S}),
    "condition": {**record(a=S), "if": {}, "then": {"properties": {"a": {"const": "x"}}}},
    "strings in allOf": record(a={"allOf": [S, {"minLength": 2}]}),
    "required, not described": {"type": "object", "required": ["a"]},
    "anyOf beside properties": {**record(a=S), "anyOf": [record(b=S)]},
    "names by pattern": {"type": "object", "patternProperties": {"^a": S}},
    "true": True,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_is_refused_at_once(corral: CorralProcess, name: str) -> None:
    instances = sorted(corral.instances())
    for status, answer in (
        chat(corral, REFUSED[name]),
        ask(corral, "/v1/completions", prompt="x", json_schema=REFUSED[name]),
    ):
        assert (status, answer["error"]["code"]) == (400, "invalid_json_schema"), answer
        assert "json_schema" in answer["error"]["param"]
    assert sorted(corral.instances()) == instances, "an instance has ended"


def test_a_harmful_tool_is_refused_though_nobody_is_forced_to_call_it(
    corral: CorralProcess,
) -> None:
    tool = {"name": "f", "parameters": REFUSED["long name"]}
    for path in ("/v1/chat/completions", "/apply-template"):
        tools = [{"type": "function", "function": tool}]
        status, answer = ask(corral, path, messages=SAY, tools=tools)
        assert (status, answer["error"]["code"]) == (400, "invalid_json_schema")
    status, answer = ask(
        corral,
        "/v1/messages/count_tokens",
        messages=SAY,
        tools=[{"name": "f", "input_schema": REFUSED["long name"]}],
    )
    assert (status, answer["error"]["param"]) == (400, "tools[0].input_schema.properties")


GRAMMARS = {
    "range over two lines": 'root ::= ("a"{5,\n2})',
    "range with many digits": 'root ::= "a"{5,00000000002}',
    "brackets": "root ::= " + "(" * 60_000,
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_that_would_end_an_instance_is_refused(corral: CorralProcess, name: str) -> None:
    instances = sorted(corral.instances())
    for path, body in (
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/chat/completions", {"messages": SAY}),
    ):
        status, answer = ask(corral, path, grammar=GRAMMARS[name], **body)
        assert (status, answer["error"]["param"]) == (400, "grammar"), answer
    fine = """root ::= "{" pair ("," pair){1,3} "}"
pair ::= [a-z]+ ": " ([0-9]{1,3} | "none") # a name and a number
"""
    status, answer = ask(corral, "/v1/completions", prompt="x", grammar=fine)
    assert status == 200, answer
    assert answer["choices"][0]["text"].startswith("{")
    assert sorted(corral.instances()) == instances, "an instance has ended"


def test_a_grammar_that_cannot_be_read_is_no_answer_without_one(corral: CorralProcess) -> None:
    """llama-server's own refusal: it would be passed over in silence if that changed."""
    for grammar in ('root ::= "a', "root ::= a", 'root ::= ("a"', 'root ::= "a"{x}'):
        status, answer = ask(corral, "/v1/completions", prompt="x", grammar=grammar)
        assert status == 400, answer
        assert "grammar" in answer["error"]["message"]


def test_the_sdk_gets_the_reason_and_does_not_ask_again(
    corral: CorralProcess, client: OpenAI
) -> None:
    patient = client.with_options(max_retries=2)
    with pytest.raises(InternalServerError) as caught:
        patient.chat.completions.create(
            model="corral-tiny",
            messages=[{"role": "user", "content": "x"}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": HOPELESS},
            },
            extra_headers={"x-request-id": "asked-once"},
        )
    assert caught.value.code == "invalid_structured_output"
    assert "non-unique" in caught.value.message
    wait_for("the log says it", 10, lambda: '"asked-once"' in corral.log.read_text())
    assert corral.log.read_text().count('"asked-once"') == 1


def test_a_stream_ends_with_the_error_not_with_a_finish(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "x"}],
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": HOPELESS}},
        stream=True,
    )
    seen: list[str | None] = []
    with pytest.raises(APIError, match="non-unique"):
        seen.extend(choice.finish_reason for chunk in stream for choice in chunk.choices)
    assert seen
    assert set(seen) == {None}


def test_a_pydantic_1_reference_is_followed(corral: CorralProcess) -> None:
    """`allOf` of one: llama-server alone answers with an empty object."""
    schema = {
        **record(a={"title": "A", "allOf": [{"$ref": "#/$defs/size"}]}),
        "$defs": {"size": {"enum": ["S", "M"]}},
    }
    status, answer = chat(corral, schema)
    assert status == 200, answer
    assert json.loads(answer["choices"][0]["message"]["content"])["a"] in ("S", "M")


def test_a_file_or_an_address_is_refused_before_llama_server_sees_it(client: OpenAI) -> None:
    for url in ("http://127.0.0.1:9/x.png", "file:///etc/passwd"):
        with pytest.raises(BadRequestError) as caught:
            client.chat.completions.create(
                model="corral-tiny",
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": url}}],
                    }
                ],
            )
        assert caught.value.code == "remote_media_not_allowed"
        assert caught.value.param == "messages[0].content[0].image_url.url"
