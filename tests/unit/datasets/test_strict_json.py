"""One JSON object or one clear error."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.datasets.strict_json import MAX_DEPTH, BadJSON, decode_row, encode

BAD = {
    "not_utf8": [
        b'{"a":"\xc3"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
        b'\xff\xfe{"a":1}',
        b'{"a":"\xf0\x9f\x92"}',
    ],
    "bom": [b'\xef\xbb\xbf{"a":1}'],
    "nul_character": [b'{"a":"\x00"}', b'{"a":"\\u0000"}', b'{"a\\u0000":[1]}', b"\x00"],
    "lone_surrogate": [
        b'{"a":"\\ud800"}',
        b'{"a":"x\\udc00y"}',
        b'{"a":"\\ud83d\\ud83d"}',
        b'{"a":"\\udead\\ud83d"}',
    ],
    "too_deep": [
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"a":' + b"[" * 101 + b"]" * 101 + b"}",
    ],
    "not_a_number": [b'{"a":NaN}', b'{"a":[1,Infinity]}', b'{"a":-Infinity}'],
    "number_too_big": [b'{"a":1e400}', b'{"a":' + b"9" * 5000 + b"}"],
    "duplicate_key": [
        b'{"a":1,"a":2}',
        b'{"m":[{"role":"user","role":"user"}]}',
        b'{"a" :1,"b":1,"b":2}',
        b'{"a\\\\":1,"b":1,"b":2}',
        b'{"a":"x\\\\","a":1}',
        b'{"a":"say \\"a\\":", "a":1}',
        b'{"\\u0061":1,"a":2}',
    ],
    "not_an_object": [b"[]", b"1", b'"x"', b"null", b"true"],
    "bad_json": [
        b"",
        b"  ",
        b'{"a":1',
        b'{"a":"b',
        b'{"a":1} x',
        b"{'a': 1}",
        b'{"a":1,}',
        b'{"a":"\x01"}',
        b"{a:1}",
        b"hello",
    ],
}


@pytest.mark.parametrize(
    ("code", "raw"), [(code, raw) for code, rows in BAD.items() for raw in rows]
)
def test_what_training_data_must_not_hold_is_refused_by_name(code: str, raw: bytes) -> None:
    with pytest.raises(BadJSON) as caught:
        decode_row(raw)
    assert caught.value.code == code
    assert caught.value.message


def test_a_repeated_key_is_named() -> None:
    with pytest.raises(BadJSON) as caught:
        decode_row(b'{"messages":[{"role":"user","content":"a","content":"b"}]}')
    assert caught.value.field == "content"


def test_python_rows_and_cut_rows_say_so() -> None:
    with pytest.raises(BadJSON, match="single quotes"):
        decode_row(b"{'a': 1}")
    with pytest.raises(BadJSON, match="cut"):
        decode_row(b'{"a": "b')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":123456789012345678901234567890}',
        b'{"a":"\\ud83e\\udd99"}',
        b'{"a":"\\\\u0000"}',
        b'{"a" : "x\\\\" , "b\\\\" : 1}',
        b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"a":"[[[[{{{{"}' + b" " * 10,
    ],
)
def test_unusual_but_good_rows_pass(raw: bytes) -> None:
    assert decode_row(raw) == json.loads(raw)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        VALUES,
        max_size=5,
    ),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_every_object_json_can_write_is_read_as_it_is(
    value: dict[str, object], ascii_only: bool, indent: int | None
) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert decode_row(raw) == value


@settings(max_examples=25)
@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert decode_row(encode({"v": value})) == {"v": value}


@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_clear_error(raw: bytes) -> None:
    with contextlib.suppress(BadJSON):
        assert isinstance(decode_row(raw), dict)
