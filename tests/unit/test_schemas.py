"""Schemas that would harm llama-server or that it follows only in part are refused, with the path."""

import time
from typing import Any

import pytest

from corral.errors import BadRequest
from corral.gateway.schemas import checker, measure

S: dict[str, Any] = {"type": "string"}


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nested(depth: int) -> dict[str, Any]:
    schema = S
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def refused(schema: dict[str, Any], *, exact: bool = False) -> str:
    with pytest.raises(BadRequest) as caught:
        measure(schema, "s", exact=exact)
    assert caught.value.code == "invalid_json_schema"
    assert caught.value.param
    assert f"`{caught.value.param}`" in caught.value.message
    return caught.value.param


# What ends llama-server, fills its memory, or keeps it from everybody else (tried at this commit).
HARMFUL: list[tuple[str, dict[str, Any], str]] = [
    ("items", record(a={"type": "array", "minItems": 5, "maxItems": 2}), "s.properties.a.minItems"),
    ("length", record(a={**S, "minLength": 5, "maxLength": 2}), "s.properties.a.minLength"),
    ("reversed", record(a={**S, "pattern": "^a{5,2}$"}), "s.properties.a.pattern"),
    ("spaced", record(a={**S, "pattern": "^a{5 , 2}$"}), "s.properties.a.pattern"),
    ("name", record(**{"_" * 30_000: S}), "s.properties"),
    ("definition", {"$ref": "#/$defs/a", "$defs": {"_" * 30_000: S, "a": S}}, "s.$defs"),
    ("reference", record(a={"$ref": "#/$defs/" + "_" * 30_000}), "s.properties.a.$ref"),
    ("pattern", record(a={**S, "pattern": "^" + "_" * 30_000 + "$"}), "s.properties.a.pattern"),
    ("self", {"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"$ref": "#/$defs/x"}}}, "s.$ref.$ref"),
    (
        "cycle",
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [S, {"$ref": "#/$defs/a"}]}}},
        "s.$ref.anyOf[1].$ref",
    ),
    ("least items", record(a={"type": "array", "minItems": 2001}), "s.properties.a.minItems"),
    ("least length", record(a={**S, "minLength": 2001}), "s.properties.a.minLength"),
    ("over 32 bits", record(a={"type": "array", "maxItems": 2**40}), "s.properties.a.maxItems"),
    ("over 64 bits", record(a={"type": "integer", "minimum": 2**63}), "s.properties.a.minimum"),
    ("impossible", record(a={"type": "integer", "minimum": 9, "maximum": 5}), "s.properties.a.minimum"),
    ("enum", record(a={"enum": list(range(1001))}), "s.properties.a.enum"),
    ("no values", record(a={"enum": []}), "s.properties.a.enum"),
    ("optional", {"type": "object", "properties": {f"p{i}": S for i in range(501)}}, "s.properties"),
    ("alternatives", {"anyOf": [{"$ref": "#/$defs/e"}] * 3, "$defs": {"e": {"enum": list(range(500))}}}, "s"),
    ("repeats", record(**{f"p{i}": {**S, "maxLength": 2000} for i in range(26)}), "s.properties.p25"),
    ("text", record(**{f"{i:0200}": S for i in range(601)}), "s"),
    ("nodes", record(**{f"p{i}": S for i in range(5001)}), "s.properties.p5000"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "param"), [case[1:] for case in HARMFUL], ids=[case[0] for case in HARMFUL]
)
def test_what_would_harm_is_refused_for_any_tool_too(schema: dict[str, Any], param: str) -> None:
    began = time.perf_counter()
    assert refused(schema) == param
    assert time.perf_counter() - began < 1


def test_doubling_references_are_counted_not_followed() -> None:
    """Thirty of them mean a billion ways to begin; llama-server follows each."""
    definitions: dict[str, Any] = {
        f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)
    }
    schema = {**record(a={"$ref": "#/$defs/d0"}), "$defs": {**definitions, "d30": S}}
    began = time.perf_counter()
    assert refused(schema).startswith("s.properties.a.$ref.anyOf[0]")
    assert time.perf_counter() - began < 1


def test_a_long_chain_of_references_is_no_recursion_of_ours() -> None:
    definitions: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3000)}
    assert refused({"$ref": "#/$defs/d0", "$defs": {**definitions, "d3000": S}})


@pytest.mark.parametrize(("depth", "fits"), [(31, True), (32, False), (300, False)])
def test_nesting_is_bounded(depth: int, fits: bool) -> None:
    if fits:
        measure(nested(depth), "s", exact=True)
    else:
        assert refused(nested(depth)).endswith(".items")


# What the grammar leaves out, seen in answers of llama-server.
PARTIAL: list[tuple[dict[str, Any], str]] = [
    (record(a={"not": S}), "s.properties.a.not"),
    ({**record(a=S), "if": {}, "then": record(a={"const": "x"})}, "s.if"),
    (record(a={"allOf": [S, {"minLength": 2}]}), "s.properties.a.allOf[0]"),
    ({"type": "object", "required": ["a"]}, "s.required"),
    ({"type": "object", "properties": {"b": S}, "required": ["a"]}, "s.required"),
    ({**record(a=S), "anyOf": [record(b=S)]}, "s.additionalProperties"),
    ({**record(a=S), "$ref": "#/properties/a"}, "s.additionalProperties"),
    ({**record(a=S), "allOf": [record(b=S), record(c=S)]}, "s.additionalProperties"),
    ({"type": "object", "patternProperties": {"^a": S}}, "s.patternProperties"),
    ({"type": "object", "propertyNames": {"maxLength": 2}}, "s.propertyNames"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "s.dependentRequired"),
    (record(a={"type": "array", "contains": {"const": 1}}), "s.properties.a.contains"),
    (record(a={"prefixItems": [S], "items": S}), "s.properties.a.items"),
    (record(a={"$ref": "http://127.0.0.1/x"}), "s.properties.a.$ref"),
    (record(a={"$ref": "#"}), "s.properties.a.$ref"),
    (record(a={"$ref": "#/$defs/nope"}), "s.properties.a.$ref"),
    (record(a={"$ref": "#/$defs/x~1y"}), "s.properties.a.$ref"),
]


@pytest.mark.parametrize(("schema", "param"), PARTIAL, ids=[case[1] for case in PARTIAL])
def test_what_the_grammar_leaves_out_is_refused_where_a_schema_binds(
    schema: dict[str, Any], param: str
) -> None:
    assert refused(schema, exact=True) == param


def test_a_tool_that_binds_nobody_may_say_more_than_the_grammar_holds() -> None:
    for schema, param in PARTIAL:
        if "$ref" not in param:
            measure(schema, "s", exact=False)


def test_what_programs_send_passes_unchanged() -> None:
    """Pydantic, zod, DSPy and MCP tools: references, recursion, unions, nulls, formats, bounds."""
    item = record(
        v=S, next={"anyOf": [{"$ref": "#/$defs/item"}, {"type": "null"}], "default": None}
    )
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$defs": {"item": {"title": "Item", **item}},
        **record(
            list={"type": "array", "items": {"$ref": "#/$defs/item", "description": "x"}},
            when={"type": "string", "format": "date-time"},
            share={"type": "number", "minimum": 0, "maximum": 1},
            code={"type": "string", "pattern": "^[A-Z]{2,3}$"},
            kind={"enum": ["a", "b", None]},
            maybe={"type": ["string", "null"], "maxLength": 5000},
            tags={"type": "array", "items": S, "uniqueItems": True, "maxItems": 3000},
            free={"type": "object", "additionalProperties": True},
            anything={},
        ),
    }
    before = repr(schema)
    measure(schema, "s", exact=True)
    assert repr(schema) == before
    assert checker(schema, "s")


def test_one_schema_in_all_of_is_that_schema() -> None:
    schema = record(a={"allOf": [{"$ref": "#/$defs/x"}], "description": "d"}, b=True)
    schema["$defs"] = {"x": {"type": "integer"}}
    measure(schema, "s", exact=True)
    assert schema["properties"] == {"a": {"$ref": "#/$defs/x", "description": "d"}, "b": {}}


def test_a_closed_tuple_is_said_so_that_it_is_understood() -> None:
    schema = {"type": "array", "prefixItems": [S], "items": False}
    measure(schema, "s", exact=True)
    assert schema == {"type": "array", "prefixItems": [S], "maxItems": 1}


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        (True, "s"),
        ("text", "s"),
        ({"type": "text"}, "s.type"),
        (record(a={**S, "pattern": "^(?=a)b$"}), "s.properties.a.pattern"),
        (record(a={**S, "pattern": "^(a$"}), "s.properties.a.pattern"),
        (record(a={**S, "pattern": "^(a{1000}){1000}$"}), "s.properties.a.pattern"),
        ({"required": "a"}, "s.required"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_path(schema: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checker(schema, "s")
    assert (caught.value.param, caught.value.code) == (param, "invalid_json_schema")


def test_a_checker_fetches_nothing_and_its_patterns_take_linear_time() -> None:
    with pytest.raises(BadRequest):
        checker({"$ref": "http://127.0.0.1:9/schema.json"}, "s")
    with pytest.raises(BadRequest):
        checker({"$ref": "file:///etc/hostname"}, "s")
    check = checker({"type": "string", "pattern": "^(a+)+$"}, "s")
    began = time.perf_counter()
    assert not check.is_valid("a" * 50_000 + "b")
    assert time.perf_counter() - began < 1
