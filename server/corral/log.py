"""JSON lines on stderr: one object per event, no prompts, no keys; and logs kept small."""

import json
import logging
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message", "asctime", "taskName",
}  # fmt: skip


class JSONFormatter(logging.Formatter):
    """Time, level, logger, message, and whatever was given as `extra` and is not empty."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, Any] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in record.__dict__.items():
            if key not in STANDARD and value not in ("", None):
                line[key] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _json(line: dict[str, Any]) -> str:
    # A line is written for every request: json takes 16 µs for one, this 1. It refuses half characters
    # and numbers of more than 64 bits.
    try:
        return msgspec.json.format(msgspec.json.encode(line, enc_hook=str), indent=0).decode()
    except (UnicodeEncodeError, OverflowError, TypeError):
        return json.dumps(line, ensure_ascii=False, default=str)


def setup(level: str) -> None:
    """Send every logger to stderr as JSON. Called once, by the command that serves."""
    # What no line tells, and every record would look up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's own lines repeat what corral.access says.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel("WARNING")


def trim(log: Path, max_bytes: int) -> None:
    """Keep the newer half of a log that is over `max_bytes`. Its writer appends, so it goes on at
    the new end; lines written during the copy are lost."""
    if not log.exists() or log.stat().st_size <= max_bytes:
        return
    with log.open("r+b") as file:
        file.seek(-max_bytes // 2, os.SEEK_END)
        tail = file.read(max_bytes)
        file.seek(0)
        file.write(tail)
        file.truncate()
