"""Log lines: one JSON object each, however odd the content."""

import json
import logging
import sys

from corral.log import JSONFormatter


def line(message: str, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("corral.x", logging.INFO, "f", 1, message, (), None)
    record.__dict__.update(extra)
    text = JSONFormatter().format(record)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_extras_are_fields_and_empty_ones_are_left_out() -> None:
    fields = line("request", status=200, error="", outcome=None, ms=0)
    assert fields["message"] == "request"
    assert fields["status"] == 200
    assert fields["ms"] == 0
    assert not {"error", "outcome"} & set(fields)


def test_a_line_cannot_be_broken_from_within() -> None:
    assert line('a\n{"level": "fake"}', path="x\ny")["message"] == 'a\n{"level": "fake"}'


def test_what_json_cannot_hold_becomes_text() -> None:
    assert line("x", thing={1, 2} and object)["thing"] == "<class 'object'>"


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("c", logging.ERROR, "f", 1, "m", (), sys.exc_info())
    assert "ValueError: why" in json.loads(JSONFormatter().format(record))["exception"]
