"""Read what a stage says through `--events`: JSON lines, checked, from a pipe. Pure but for `os.read`."""

import json
import os
import select
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

READ_BYTES = 64 * 1024
# A result may hold a table; a longer line is no event.
LINE_MAX_BYTES = 4 * 1024 * 1024
TEXT_MAX = 4000


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Progress(_Event):
    """So many of so many units; `text` names what. `kept`: so many would not be lost if the stage were
    killed now (a checkpoint). `left`: seconds to the end of the stage, where it can tell."""

    type: Literal["progress"] = "progress"
    done: float
    total: float | None = None
    unit: str = Field("", max_length=40)
    text: str = Field("", max_length=TEXT_MAX)
    kept: float | None = None
    left: float | None = None


class Message(_Event):
    """One line for a person; with `data`, figures that a program may plot."""

    type: Literal["message"] = "message"
    level: Literal["info", "warning"] = "info"
    text: str
    data: dict[str, Any] | None = None


class Failure(_Event):
    """Why the stage is about to end without a result."""

    type: Literal["failure"] = "failure"
    message: str
    code: str = Field("", max_length=60)
    param: str | None = Field(None, max_length=200)


class Result(_Event):
    """What the stage made."""

    type: Literal["result"] = "result"
    data: dict[str, Any]


Event = Progress | Message | Failure | Result
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


class EventPipe:
    """The reading end of a stage's events. What is no event is passed over."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        self._partial = b""

    def close_write_end(self) -> None:
        """Once the stage has it."""
        os.close(self.write_end)

    def close(self) -> None:
        """When nothing more is expected."""
        os.close(self._read)

    def read(self, seconds: float) -> Iterator[Event]:
        """The events that are there, or come within `seconds`; then what can be read at once."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        return self._events(self._take()) if ready else iter(())

    def rest(self) -> Iterator[Event]:
        """What is left, without waiting: after the stage has ended."""
        while data := self._take():
            yield from self._events(data)

    def _take(self) -> bytes:
        try:
            return os.read(self._read, READ_BYTES)
        except BlockingIOError:
            return b""

    def _events(self, data: bytes) -> Iterator[Event]:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LINE_MAX_BYTES:
            self._partial = b""
        for line in lines:
            event = parse(line)
            if event is not None:
                yield event


def parse(line: bytes) -> Event | None:
    """The event in one line; None when there is none, or it is malformed."""
    if not line.strip() or len(line) > LINE_MAX_BYTES:
        return None
    try:
        # json.loads first: pydantic's own parser would turn NaN away with the whole line.
        return EVENT.validate_python(json.loads(line))
    except (ValueError, RecursionError, ValidationError):
        return None
