"""What a format is: how to tell it, read a row of it, write a row of it, and its rules in words."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from corral.datasets.findings import Place, shown
from corral.datasets.rows import Row
from corral.datasets.strict_json import BadJSON, decode_row


class Format(ABC):
    """One dataset format. Instances hold no state; all that happens goes to `place`."""

    name: ClassVar[str]
    title: ClassVar[str]
    rules: ClassVar[tuple[str, ...]]
    # Top-level keys that mean something here; all others are `Row.extra`.
    keys: ClassVar[frozenset[str]]
    holds_extra: ClassVar[bool] = True

    @abstractmethod
    def score(self, value: dict[str, Any]) -> int:
        """How surely a row is of this format: 0 not at all, up to 10."""

    @abstractmethod
    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        """The row, or None after at least one error."""

    def read_plain(self, lines: Sequence[bytes], chunk: bytes) -> list[Row] | None:
        """A short cut for the commonest rows of this format: what `read` would give of each of
        these lines of `chunk`, or None when it takes `read` to tell."""
        return None

    @abstractmethod
    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        """The row in this format, with a loss for all it cannot hold; None, after a loss, for a
        row that it cannot hold at all."""

    def extra_of(self, value: dict[str, Any]) -> dict[str, Any] | None:
        """The keys that this format gives no meaning."""
        if value.keys() <= self.keys:
            return None
        return {key: item for key, item in value.items() if key not in self.keys}

    def with_extra(self, value: dict[str, Any], row: Row, place: Place) -> dict[str, Any]:
        """`value` plus the row's extra keys; a loss for each that cannot come along."""
        for key, item in (row.extra or {}).items():
            if key in self.keys:
                place.loss(key, "lost_key", f"{self.name} uses the key {key!r} for itself")
            elif self.holds_extra:
                value[key] = item
            else:
                place.loss(key, "lost_key", f"{self.name} allows no key {key!r}")
        return value

    def lose_tools(self, row: Row, place: Place) -> None:
        """Report tool definitions that this format cannot hold."""
        if row.tools:
            place.loss("tools", "lost_tools", f"{self.name} holds no tool definitions")


def read_text(value: dict[str, Any], key: str, place: Place) -> str:
    """A required text field; "" after an error."""
    item = value.get(key)
    if type(item) is str:
        return item
    if key not in value:
        place.error(key, "missing_field", f"missing; found {keys_found(value)}")
    else:
        place.error(key, "wrong_type", f"found {shown(item)}; must be text")
    return ""


def read_optional_text(value: dict[str, Any], key: str, place: Place) -> str:
    """An optional text field; absent, null and empty are the same."""
    return read_text(value, key, place) if value.get(key) is not None else ""


def read_tools(item: Any, place: Place, field: str = "tools") -> list[Any] | None:
    """Tool definitions: a list, or JSON text of one, as ShareGPT and tables have it."""
    if item is None or item == "":
        return None
    if isinstance(item, str):
        try:
            item = decode_row(b'{"tools":' + item.encode() + b"}")["tools"]
        except BadJSON as bad:
            place.error(field, bad.code, f"found text that is no JSON list of tools: {bad.message}")
            return None
    if not isinstance(item, list):
        place.error(field, "wrong_type", f"found {shown(item)}; must be a list of tools")
        return None
    for number, tool in enumerate(item):
        if not isinstance(tool, dict) or not tool_name(tool):
            place.error(
                f"{field}[{number}]",
                "bad_tool",
                f'found {shown(tool)}; allowed: {{"type":"function","function":{{"name":…}}}}',
            )
    return item


def tool_name(tool: dict[str, Any]) -> str:
    """The name of a tool definition, wrapped in `function` or bare; "" when it has none."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def wrapped_tools(tools: list[Any], place: Place) -> list[Any]:
    """Tool definitions as OpenAI has them: bare functions, as some formats have, in a wrapper."""
    if all("function" in tool for tool in tools):
        return tools
    place.note("tools", "wrapped_tools", 'written as {"type":"function","function":…}')
    return [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in tools
    ]


def keys_found(value: dict[str, Any]) -> str:
    """The keys of a row, for messages."""
    return "the keys " + ", ".join(map(repr, list(value)[:8])) if value else "no keys"
