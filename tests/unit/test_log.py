"""Log lines: one JSON object each, however odd the content. Logs that are appended to stay bounded."""

import json
import logging
import sys
from pathlib import Path

from corral.log import JSONFormatter, trim


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


def test_half_a_character_and_a_long_number_do_not_lose_the_line() -> None:
    assert line("x", model="a\ud800")["model"] == "a\ud800"
    assert line("x", number=2**70)["number"] == 2**70


def test_the_time_is_that_of_the_record() -> None:
    record = logging.LogRecord("c", logging.INFO, "f", 1, "m", (), None)
    for created in (0.25, 1.25, 0.25):
        record.created, record.msecs = created, 250.0
        text = JSONFormatter().format(record)
        assert text.startswith(
            f'{{"time": "1970-01-01T00:00:0{int(created)}.250Z", "level": "info"'
        )


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("c", logging.ERROR, "f", 1, "m", (), sys.exc_info())
    assert "ValueError: why" in json.loads(JSONFormatter().format(record))["exception"]


def test_a_log_is_cut_to_its_newer_half_while_it_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a" * 600 + b"b" * 600)
        trim(path, 1200)
        assert path.stat().st_size == 1200
        writer.write(b"c")
        trim(path, 1200)
        writer.write(b"d")
    assert path.read_bytes() == b"b" * 599 + b"cd"


def test_a_log_that_is_not_there_is_none_to_cut(tmp_path: Path) -> None:
    trim(tmp_path / "log", 10)
    assert list(tmp_path.iterdir()) == []
