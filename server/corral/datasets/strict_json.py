"""One JSON object from bytes, or one clear error.

msgspec is the parser: as fast as any from PyPI, it keeps big integers whole, and its `Raw` gives
and takes the exact text of a value, which keeps tool arguments byte for byte (orjson cannot read
so). What it tolerates and training data must not have is found here: keys given twice, NUL
characters, deep nesting. Its own error texts are replaced by ones that say what to mend.
"""

import json
from typing import Any, NoReturn

import msgspec
import numpy as np

# A row past these bounds is a mistake or an attack: no tokenizer of the field takes 8 MiB.
MAX_ROW_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 100

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class BadJSON(ValueError):
    """The bytes are not one JSON object that training data may hold."""

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


def decode_row(raw: bytes) -> dict[str, Any]:
    """Parse one row. Raises BadJSON, nothing else."""
    try:
        value = _decode(raw)
    except (ValueError, RecursionError) as error:
        _explain(raw, error)
    if type(value) is not dict:
        raise BadJSON("not_an_object", f"found {_kind(value)}; a row is a JSON object, {{…}}")
    written = strings_written(raw)
    if written is None or written != _count_strings(value):
        _refuse_repeated_keys(raw)
    if b"\\u0000" in raw and _has_nul(value):
        raise BadJSON("nul_character", "holds the character U+0000; remove it")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadJSON("too_deep", f"nested more than {MAX_DEPTH} levels deep")
    return value


def valid_object(text: str) -> bool:
    """Whether the text is JSON of an object, as tool arguments must be."""
    try:
        return type(_decode(text)) is dict
    except (ValueError, RecursionError):
        return False


def strings_written(raw: bytes) -> int | None:
    """How many strings, keys included, valid JSON holds, from its quotes alone; None when an
    escaped backslash before a quote makes that uncertain.

    A key given twice is written twice and parsed once, so this finds it without parsing again.
    """
    quotes = raw.count(b'"')
    if b"\\" in raw:
        if b'\\\\"' in raw:
            return None
        quotes -= raw.count(b'\\"')
    return quotes >> 1


def strings_in_chunk(chunk: bytes) -> int | None:
    """The same for many rows at once, in a fifth of the time; None also when a NUL is written."""
    marks = np.frombuffer(chunk, np.uint8)
    quote = marks == ord('"')
    backslash = marks == ord("\\")
    escaped = quote[1:] & backslash[:-1]
    if (escaped[1:] & backslash[:-2]).any():
        return None
    escape_u0 = backslash[:-2] & (marks[1:-1] == ord("u")) & (marks[2:] == ord("0"))
    if escape_u0.any() and b"\\u0000" in chunk:
        return None
    return (int(np.count_nonzero(quote)) - int(np.count_nonzero(escaped))) >> 1


def _count_strings(value: dict[str, Any]) -> int:
    total = 0
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            total += len(item)
            item = item.values()
        for child in item:
            kind = type(child)
            if kind is str:
                total += 1
            elif kind is dict or kind is list:
                stack.append(child)
    return total


def _refuse_repeated_keys(raw: bytes) -> None:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise BadJSON(
                        "duplicate_key", f"key {key!r} is given twice in one object; keep one", key
                    )
                seen.add(key)
        return result

    try:
        json.loads(raw, object_pairs_hook=build)
    except RecursionError:
        raise BadJSON("too_deep", f"nested more than {MAX_DEPTH} levels deep") from None


def _has_nul(value: Any) -> bool:
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if type(item) is str:
            if "\0" in item:
                return True
        elif type(item) is dict:
            stack += item.keys()
            stack += item.values()
        elif type(item) is list:
            stack += item
    return False


def _depth(value: Any) -> int:
    deepest = 0
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, level = stack.pop()
        deepest = max(deepest, level)
        children = item.values() if type(item) is dict else item
        stack += [(child, level + 1) for child in children if type(child) in (dict, list)]
    return deepest


def _explain(raw: bytes, error: Exception) -> NoReturn:
    """Raise the BadJSON that says best why `raw` did not parse."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raise BadJSON("bom", "starts with a byte order mark (EF BB BF); save as UTF-8 without BOM")
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        byte = raw[bad.start]
        raise BadJSON(
            "not_utf8", f"byte 0x{byte:02X} at byte {bad.start + 1} is not UTF-8; save as UTF-8"
        ) from None
    if "\0" in text:
        column = text.index("\0") + 1
        raise BadJSON("nul_character", f"a NUL byte at column {column}; is this a text file?")
    if isinstance(error, RecursionError):
        raise BadJSON("too_deep", f"nested more than {MAX_DEPTH} levels deep")
    _explain_text(text, error)


def _explain_text(text: str, error: Exception) -> NoReturn:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as bad:
        raise BadJSON("bad_json", _broken(text, bad)) from None
    except RecursionError:
        raise BadJSON("too_deep", f"nested more than {MAX_DEPTH} levels deep") from None
    except BadJSON:
        raise
    except ValueError:
        # Python refuses integers of over 4,300 digits.
        raise BadJSON("number_too_big", "holds a number of thousands of digits") from None
    if "out of range" in str(error):
        raise BadJSON("number_too_big", "holds a number past what a 64-bit float can be")
    raise BadJSON(
        "lone_surrogate",
        "an escape \\ud800 to \\udfff stands without its other half, which is no character; "
        "remove it or write the pair",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise BadJSON("not_a_number", f"found {name}, which JSON does not have; use null or a number")


def _broken(text: str, bad: json.JSONDecodeError) -> str:
    where = f"column {bad.pos + 1}"
    if not text.strip():
        return "the row is empty; a row is a JSON object, {…}"
    if text.lstrip().startswith("{'"):
        return "written as a Python literal with single quotes; JSON wants double quotes"
    if bad.pos >= len(text.rstrip()) or bad.msg.startswith("Unterminated string"):
        return f"the row breaks off ({bad.msg} at {where}); was the file cut?"
    near = text[max(0, bad.pos - 10) : bad.pos + 10]
    return f"not JSON at {where}, near {near!r}: {bad.msg}"


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
