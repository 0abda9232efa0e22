"""The base of formats whose rows are `{"messages": [...], "tools": [...]}`."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from corral.datasets.findings import Place
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_tools, wrapped_tools
from corral.datasets.formats.turns import Dialect, read_turns, with_call_ids, write_turns
from corral.datasets.rows import Message, PlainTurns, Row
from corral.datasets.strict_json import strings_in_chunk


class _PlainTurn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _PlainRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_PlainTurn]


_decode_plain = msgspec.json.Decoder(_PlainRow).decode_lines


class MessagesFormat(Format):
    """OpenAI's chat shape and its relatives."""

    keys: ClassVar[frozenset[str]] = frozenset(("messages", "tools"))
    dialect: ClassVar[Dialect] = Dialect()
    holds_developer: ClassVar[bool] = False
    needs_call_ids: ClassVar[bool] = False

    def score(self, value: dict[str, Any]) -> int:
        return 0

    def read_plain(self, lines: Sequence[bytes], chunk: bytes) -> list[Row] | None:
        """Rows of `messages` with role and text alone, parsed and checked by msgspec at once."""
        # msgspec takes values apart by white space of any kind. With a brace at both ends of
        # each line, a line is a value, for inside a value no } stands before a {.
        for line in lines:
            if line[:1] != b"{" or line[-1:] != b"}":
                return None
        try:
            items = _decode_plain(chunk)
        except (ValueError, RecursionError):
            return None
        rows, strings = [], 0
        for item in items:
            turns = [Message(turn.role, turn.content) for turn in item.messages]
            if not turns:
                return None
            # A turn has two keys and two values, the row the key `messages`.
            strings += 1 + 4 * len(turns)
            rows.append(Row("chat", PlainTurns(turns)))
        if len(rows) != len(lines) or strings_in_chunk(chunk) != strings:
            return None
        return rows

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        return self.read_chat(value, place)

    def read_chat(self, value: dict[str, Any], place: Place, key: str = "messages") -> Row | None:
        """A chat row whose turns are under `key`."""
        if key not in value:
            found = ", ".join(map(repr, list(value)[:8])) or "none"
            place.error(key, "missing_field", f"missing; found the keys: {found}")
            return None
        turns = read_turns(value[key], place, key)
        if len(value) == 1:
            return None if place.bad else Row("chat", messages=turns)
        tools = read_tools(value.get("tools"), place)
        return (
            None
            if place.bad
            else Row("chat", messages=turns, tools=tools, extra=self.extra_of(value))
        )

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        chat = adapt.as_chat(row, place, self.name)
        if chat is None:
            return None
        value: dict[str, Any] = {"messages": self.turns(chat.messages, place)}
        if chat.tools is not None:
            value["tools"] = wrapped_tools(chat.tools, place)
        if chat.parallel_tool_calls is not None:
            self.write_parallel(value, chat.parallel_tool_calls, place)
        return self.with_extra(value, chat, place) if chat.extra else value

    def write_parallel(self, value: dict[str, Any], flag: bool, place: Place) -> None:
        """Where `parallel_tool_calls` goes; most formats have no place for it."""
        place.loss("parallel_tool_calls", "lost_key", f"{self.name} has no parallel_tool_calls")

    def turns(self, turns: tuple[Message, ...], place: Place) -> list[dict[str, Any]]:
        """The turns as this format writes them."""
        if not self.holds_developer:
            turns = adapt.developer_as_system(turns, place)
        if self.dialect.weight_key is None:
            adapt.lose_weights(turns, place, self.name)
        if self.needs_call_ids:
            turns = with_call_ids(turns, place)
        return write_turns(turns, self.dialect, place)

    def preference(
        self, value: dict[str, Any], place: Place
    ) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """The `chosen` and `rejected` of a row, each a turn or a list of turns."""
        sides = []
        for key in ("chosen", "rejected"):
            side = value.get(key)
            sides.append(read_turns([side] if isinstance(side, dict) else side, place, key))
        return sides[0], sides[1]


def without_prompt(row: Row) -> Row:
    """A preference whose sides each hold the whole conversation, with the shared start as prompt."""
    shared = 0
    for one, other in zip(row.chosen, row.rejected, strict=False):
        if one != other:
            break
        shared += 1
    return msgspec.structs.replace(
        row,
        messages=row.chosen[:shared],
        chosen=row.chosen[shared:],
        rejected=row.rejected[shared:],
    )
