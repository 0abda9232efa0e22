"""The prompts that a teacher starts from: a dataset of any format, or a text with one on a line."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from corral.datasets import containers
from corral.datasets.check import find_format
from corral.datasets.findings import Findings, Place
from corral.datasets.rows import Message, Row, text_of
from corral.errors import InvalidData


class Prompt(msgspec.Struct, frozen=True):
    """Turns that end with a user's. `id` is stable from run to run; `parent` is the prompt that
    this one was made from, by `change`, in `round`."""

    id: str
    turns: tuple[Message, ...]
    parent: str | None = None
    change: str | None = None
    round: int = 0

    @property
    def request(self) -> str:
        """The last user turn."""
        return text_of(self.turns[-1].content)

    @property
    def rules(self) -> str:
        """The system turns."""
        return "\n".join(text_of(turn.content) for turn in self.turns if _is_system(turn))

    @property
    def asked(self) -> str:
        """All that is asked, earlier turns included, as a teacher is shown it."""
        turns = [turn for turn in self.turns if not _is_system(turn)]
        if len(turns) == 1:
            return self.request
        return "\n\n".join(f"{turn.role.capitalize()}: {text_of(turn.content)}" for turn in turns)

    def changed(self, request: str, id: str, change: str) -> "Prompt":
        """The same conversation with another last request."""
        turns = (*self.turns[:-1], msgspec.structs.replace(self.turns[-1], content=request))
        return Prompt(id, turns, self.id, change, self.round + 1)


def read_prompts(path: Path, findings: Findings) -> list[Prompt]:
    """The prompts of a file, each of its rows once. Raises InvalidData when there is none."""
    reading = _lines if path.suffix.lower() == ".txt" else _rows
    prompts = [Prompt(f"p{line}", turns) for line, turns in reading(path, findings)]
    if not prompts:
        raise InvalidData(f"{path} has no prompt: no row ends with, or answers, a user's turn")
    return prompts


def _lines(path: Path, findings: Findings) -> Iterator[tuple[int, tuple[Message, ...]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidData(f"cannot read {path}: {error.strerror}", param=str(path)) from None
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path} is not UTF-8 ({error}); save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, (Message("user", line.strip()),)


def _rows(path: Path, findings: Findings) -> Iterator[tuple[int, tuple[Message, ...]]]:
    place = Place(findings, str(path))
    format = find_format(path, None)
    for value in containers.read(path, place):
        row = format.read(value, place)
        turns = _question_turns(row) if row is not None else ()
        if turns:
            yield place.line, turns
        elif row is not None:
            place.warning("", "no_prompt", "no user's turn to answer; passed over")


def _question_turns(row: Row) -> tuple[Message, ...]:
    """The turns up to the last user's turn, without its answer."""
    if row.kind == "completion":
        return (Message("user", row.prompt),) if row.prompt else ()
    turns = row.messages
    while turns and turns[-1].role != "user":
        turns = turns[:-1]
    if not turns or not text_of(turns[-1].content).strip():
        return ()
    # Calls and their results mean nothing to a teacher that has not the tools.
    plain = all(turn.role != "tool" and not turn.tool_calls for turn in turns)
    return turns if plain else ()


def _is_system(turn: Message) -> bool:
    return turn.role in ("system", "developer")
