"""Request bodies: strict JSON in, the least change out."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral.errors import BadRequest
from corral.gateway import body as bodies
from corral.runtime.presets import Placement


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"model": "x", }', r"line 1 column 16 \(character 15\)"),
        (b'{"a": 1\n"b": 2}', "line 2 column 1"),
        (b"[]", "not an array"),
        (b'"text"', "not a string"),
        (b"null", "not null"),
        (b"true", "not a boolean"),
        (b"1", "not a number"),
        (b'{"temperature": NaN}', "NaN is no JSON number"),
        (b'{"temperature": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": "\xff"}', "byte 7"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        bodies.parse(raw)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 5000])
def test_a_number_too_large_for_json_is_refused(number: bytes) -> None:
    with pytest.raises(BadRequest, match="too large"):
        bodies.parse(b'{"temperature": ' + number + b"}")


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), ANY), st.booleans(), st.sampled_from(["utf-8", "utf-16-le"]))
@example({"a": 10**300, "b": "\ud800", "c": 1e-320, "d": -0.0, "": "\x00"}, True, "utf-8")
def test_what_comes_is_what_goes_to_llama_server(
    body: dict[str, Any], escaped: bool, encoding: str
) -> None:
    raw = json.dumps(body, ensure_ascii=escaped).encode(encoding, "surrogatepass")
    read = bodies.parse(raw)
    assert read == body == json.loads(raw.decode(encoding, "surrogatepass"))
    sent = bodies.for_upstream(read, Placement("m@1"))
    body.pop("lora", None)
    assert json.loads(sent) == body | {"model": "m@1"}


@pytest.mark.parametrize(
    ("body", "default", "expected"),
    [({"model": "a"}, None, "a"), ({}, "d", "d"), ({"model": None}, "d", "d")],
)
def test_the_model_asked_for(body: dict[str, Any], default: str | None, expected: str) -> None:
    assert bodies.asked_model(body, default) == expected


@pytest.mark.parametrize("model", [5, "", "  ", [], {}, True])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    with pytest.raises(BadRequest, match="non-empty string") as caught:
        bodies.asked_model({"model": model}, "default")
    assert caught.value.param == "model"


def test_a_missing_model_is_refused_where_there_is_no_default() -> None:
    with pytest.raises(BadRequest, match="`model` is required"):
        bodies.asked_model({"model": None}, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"temperature": 0, "max_tokens": 9}),
        ({"temperature": 1}, {"temperature": 1, "max_tokens": 9}),
        ({"temperature": None}, {"temperature": 0, "max_tokens": 9}),
        ({"max_completion_tokens": 5}, {"temperature": 0, "max_completion_tokens": 5}),
        ({"n_predict": 5}, {"temperature": 0, "n_predict": 5}),
    ],
)
def test_defaults_fill_only_what_is_not_set(body: dict[str, Any], expected: Any) -> None:
    bodies.with_defaults(body, {"temperature": 0, "max_tokens": 9})
    assert body == expected


def test_only_the_model_and_the_adapters_are_changed() -> None:
    raw = '{"model":"x","messages":[{"content":"é\\ud800 1.10","n":12345678901234567890}],"z":[{}]}'
    sent = json.loads(bodies.for_upstream(bodies.parse(raw.encode()), Placement("m@1")))
    assert sent == {**json.loads(raw), "model": "m@1"}
    asked = {"lora": [{"id": 0, "scale": 9}]}
    assert json.loads(bodies.for_upstream(asked, Placement("m@1"))) == {"model": "m@1"}
    lora = ({"id": 0, "scale": 0.0},)
    sent = json.loads(
        bodies.for_upstream({"lora": [{"id": 0, "scale": 9}]}, Placement("m@1", lora))
    )
    assert sent == {"model": "m@1", "lora": [{"id": 0, "scale": 0.0}]}
