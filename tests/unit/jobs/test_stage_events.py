"""What a stage says: JSON lines by a pipe, whatever else comes along; and its log."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import DiskFullError, ToolError
from corral.jobs import stage_log
from corral.jobs.events import LINE_MAX_BYTES, EventPipe, Failure, Message, Progress, Result, parse


@pytest.fixture
def pipe() -> Iterator[EventPipe]:
    made = EventPipe()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            b'{"type": "progress", "done": 1, "total": null, "unit": "bytes", "text": "m.gguf"}',
            Progress(done=1, total=None, unit="bytes", text="m.gguf"),
        ),
        (
            b'{"type": "message", "level": "warning", "text": "x"}',
            Message(level="warning", text="x"),
        ),
        (
            b'{"type": "message", "text": "x", "data": {"step": 1}}',
            Message(text="x", data={"step": 1}),
        ),
        (
            b'{"type": "progress", "done": 1, "kept": 1, "left": 2.5}',
            Progress(done=1, kept=1, left=2.5),
        ),
        (
            b'{"type": "failure", "message": "x", "code": "c", "param": "p"}',
            Failure(message="x", code="c", param="p"),
        ),
        (b'{"type": "result", "data": {"a": [1]}, "more": 1}', Result(data={"a": [1]})),
        (b"", None),
        (b"not JSON", None),
        (b"\xff\xfe", None),
        (b"[1]", None),
        (b'{"type": "other"}', None),
        (b'{"type": "progress", "done": NaN}', None),
        (b'{"type": "progress", "done": "much"}', None),
        (b'{"type": "result", "data": [1]}', None),
        (b"[" * 100_000, None),
        (b'{"type": "message", "text": "' + b"x" * LINE_MAX_BYTES + b'"}', None),
    ],
)
def test_a_line_is_an_event_or_nothing(line: bytes, event: object) -> None:
    assert parse(line) == event


def test_events_come_whole_however_they_are_cut(pipe: EventPipe) -> None:
    text = b'{"type": "message", "text": "one"}\nrubbish\n{"type": "message", "text": "two"}\n'
    found = []
    for byte in text:
        os.write(pipe.write_end, bytes([byte]))
        found += [event.text for event in pipe.read(1) if isinstance(event, Message)]
    assert found == ["one", "two"]
    pipe.close_write_end()
    assert list(pipe.rest()) == []


def test_without_events_reading_does_not_wait_for_ever(pipe: EventPipe) -> None:
    assert list(pipe.read(0.01)) == []
    pipe.close_write_end()


def test_what_is_left_is_read_at_the_end_but_for_half_a_line(pipe: EventPipe) -> None:
    os.write(pipe.write_end, b'{"type": "message", "text": "one"}\n{"type": "mess')
    pipe.close_write_end()
    assert list(pipe.rest()) == [Message(text="one")]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (b"", ""),
        (b"working\n\nerror: no space\nbye\n", "no space"),
        (b"error: first\nerror: second\n", "second"),
        (b"Traceback\nValueError: x\n\n", "ValueError: x"),
        (b"noise\n" * 100_000 + b"error: \xff at the end\n", "\ufffd at the end"),
    ],
)
def test_the_reason_is_the_last_error_else_the_last_line(
    tmp_path: Path, log: bytes, reason: str
) -> None:
    path = tmp_path / "stage.log"
    path.write_bytes(log)
    assert stage_log.reason(path) == reason


def test_trouble_with_the_disk_is_told_with_the_place() -> None:
    full = stage_log.cannot_write(Path("x/out"), OSError(errno.ENOSPC, "No space left"))
    assert isinstance(full, DiskFullError)
    assert "no space left to write x/out" in full.message
    denied = stage_log.cannot_write(Path("x/out"), OSError(errno.EACCES, "Permission denied"))
    assert isinstance(denied, ToolError)
    assert denied.code == "not_writable"
    assert denied.message.startswith("x/out cannot be written: Permission denied; make it writable")
