"""Parquet through pyarrow (the `data` group). Turns become lists of structs, as datasets has them.

Tool definitions and whatever else has a shape of its own in each row are JSON text: Arrow would
give every row the keys of all others, filled with nulls.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets.containers import cells
from corral.datasets.containers.jsonl import parse
from corral.datasets.containers.spooled import TableWriter, cell_text, row_text
from corral.datasets.findings import Place
from corral.datasets.strict_json import encode
from corral.errors import InvalidData, ToolError

_BATCH_ROWS = 512
_TURN_KEYS_AS_TEXT = {"role", "content", "from", "value", "name", "tool_call_id"}


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError:
        raise ToolError("Parquet needs pyarrow: pip install 'corral[data]'") from None


def read(path: Path, place: Place) -> Iterator[dict[str, Any]]:
    """The rows; `place.line` is the row's number. A null is an absent key."""
    arrow = _pyarrow()
    try:
        file = arrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for value in batch.to_pylist():
                number += 1
                place.move(number)
                row = _row(value, place)
                if row is not None:
                    yield row
    except (arrow.ArrowException, OSError) as error:
        raise InvalidData(f"{path} is no readable Parquet file: {error}", param=str(path)) from None


def _row(value: dict[str, Any], place: Place) -> dict[str, Any] | None:
    texts = []
    for column, item in value.items():
        if item is None:
            continue
        if isinstance(item, str):
            texts.append((column, cell_text(column, item)))
        elif isinstance(item, int | float | list | dict):
            texts.append((column, encode(_without_nulls(item)).decode()))
        else:
            place.error(column, "not_json", f"a {type(item).__name__}; JSON has no such type")
            return None
    place.raw = row_text(iter(texts))
    return parse(place.raw, place)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_nulls(item)
            for key, item in value.items()
            if item is not None or (key == "content" and "role" in value)
        }
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


class ParquetWriter(TableWriter):
    """A column for each key that any row has, of the type that all its values share."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path, place)
        self._arrow = _pyarrow()
        self._columns: dict[str, _Column] = {}

    def see(self, value: dict[str, Any]) -> None:
        for name, item in value.items():
            self._columns.setdefault(name, _Column()).see(item)
            if item is None:
                self.place.note(name, "null", "a null is read back as no key at all")

    def finish(self) -> None:
        self.place.move(0)
        for name, column in self._columns.items():
            if column.kind == "json" and name not in cells.ALWAYS_JSON:
                said = "rows differ in shape; written as JSON text"
                self.place.note(name, "json_column", said)
        types = {name: column.arrow_type(self._arrow) for name, column in self._columns.items()}
        schema = self._arrow.schema(list(types.items()))
        with self._arrow.parquet.ParquetWriter(self.file, schema) as writer:
            batch: list[dict[str, Any]] = []
            for row in self.spooled():
                batch.append({name: self._columns[name].cell(raw) for name, raw in row.items()})
                if len(batch) == _BATCH_ROWS:
                    writer.write_table(self._arrow.Table.from_pylist(batch, schema))
                    batch = []
            writer.write_table(self._arrow.Table.from_pylist(batch, schema))


class _Column:
    """What a column has held so far: one scalar type, turns, or anything else (JSON text)."""

    def __init__(self) -> None:
        self.kind = ""
        self._turn_keys: dict[str, str] = {}

    def see(self, value: Any) -> None:
        if value is None or self.kind == "json":
            return
        kind = _kind(value)
        self.kind = kind if self.kind in ("", kind) else "json"
        if kind == "turns":
            for turn in value:
                self._see_turn(turn)

    def _see_turn(self, turn: dict[str, Any]) -> None:
        for key, item in turn.items():
            if item is None and key in _TURN_KEYS_AS_TEXT:
                kind = "text"
            else:
                kind = "calls" if key == "tool_calls" and _plain_calls(item) else _kind(item)
            if kind in ("turns", "json") or self._turn_keys.setdefault(key, kind) != kind:
                self.kind = "json"

    def arrow_type(self, arrow: Any) -> Any:
        text = arrow.string()
        function = arrow.struct([("name", text), ("arguments", text)])
        types = {
            "text": text,
            "json": text,
            "": text,
            "flag": arrow.bool_(),
            "number": arrow.float64(),
            "integer": arrow.int64(),
            "calls": arrow.list_(
                arrow.struct([("id", text), ("type", text), ("function", function)])
            ),
        }
        if self.kind == "turns":
            fields = [(key, types[kind]) for key, kind in self._turn_keys.items()]
            return arrow.list_(arrow.struct(fields))
        return types[self.kind]

    def cell(self, raw: msgspec.Raw) -> Any:
        """A value, from its JSON text, as the column has it."""
        if self.kind == "json":
            return bytes(raw).decode()
        value = msgspec.json.decode(raw)
        if self.kind == "turns" and "tool_calls" in self._turn_keys:
            _arguments_as_text(value, raw)
        return value


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list) and value and all(_is_turn(item) for item in value):
        return "turns"
    return "json"


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value) and "parts" not in value


def _plain_calls(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(call, dict)
        and call.keys() <= {"id", "type", "function"}
        and isinstance(call.get("function"), dict)
        and call["function"].keys() <= {"name", "arguments"}
        and isinstance(call["function"].get("arguments"), str | msgspec.Raw)
        for call in value
    )


class _Function(msgspec.Struct):
    arguments: msgspec.Raw


class _Call(msgspec.Struct):
    function: _Function


class _Turn(msgspec.Struct):
    tool_calls: list[_Call] | None = None


def _arguments_as_text(turns: list[dict[str, Any]], raw: msgspec.Raw) -> None:
    """Arguments that are objects become their exact text: Arrow would give all of them all keys."""
    for turn, exact in zip(turns, msgspec.json.decode(raw, type=list[_Turn]), strict=True):
        for call, exact_call in zip(
            turn.get("tool_calls") or (), exact.tool_calls or (), strict=True
        ):
            if isinstance(call["function"]["arguments"], dict):
                text = bytes(exact_call.function.arguments).decode()
                call["function"]["arguments"] = text
