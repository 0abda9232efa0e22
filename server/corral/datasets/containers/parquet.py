"""Parquet through pyarrow (the `data` group). Turns become lists of structs, as datasets has them.

Tool definitions and whatever else has a shape of its own in each row are JSON text: Arrow would
give every row the keys of all others, filled with nulls.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from corral.datasets.containers import cells
from corral.datasets.containers.output import Writer
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
                if not place.bad:
                    yield row
    except (arrow.ArrowException, OSError) as error:
        raise InvalidData(f"{path} is no readable Parquet file: {error}", param=str(path)) from None


def _row(value: dict[str, Any], place: Place) -> dict[str, Any]:
    row = {}
    for column, item in value.items():
        if item is None:
            continue
        if isinstance(item, str):
            item = cells.parse_cell(column, item, place)
        elif not isinstance(item, int | float | list | dict):
            place.error(column, "not_json", f"a {type(item).__name__}; JSON has no such type")
        row[column] = _without_nulls(item)
    return row


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_nulls(item)
            for key, item in value.items()
            if item is not None or (key == "content" and "role" in value)
        }
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


class ParquetWriter(Writer):
    """Rows go to a JSONL spool first: only with all of them seen are the columns' types known."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self._place = place
        self._arrow = _pyarrow()
        self._spool = self.temporary.with_suffix(".spool")
        self._spool_file = self._spool.open("wb", buffering=1 << 20)
        self._columns: dict[str, _Column] = {}

    def write(self, value: dict[str, Any]) -> bool:
        value = cells.plain(value)
        for name, item in value.items():
            self._columns.setdefault(name, _Column()).see(item)
        self._spool_file.write(encode(value) + b"\n")
        self.rows += 1
        return True

    def finish(self) -> None:
        self._spool_file.close()
        for name, column in self._columns.items():
            if column.kind == "json" and name not in cells.ALWAYS_JSON:
                self._place.move(0)
                self._place.note(name, "json_column", "rows differ in shape; written as JSON text")
        types = {name: column.arrow_type(self._arrow) for name, column in self._columns.items()}
        schema = self._arrow.schema(list(types.items()))
        with (
            self._arrow.parquet.ParquetWriter(self.file, schema) as writer,
            self._spool.open("rb") as spool,
        ):
            batch: list[dict[str, Any]] = []
            for line in spool:
                row = json.loads(line)
                batch.append({name: self._columns[name].cell(row.get(name)) for name in types})
                if len(batch) == _BATCH_ROWS:
                    writer.write_table(self._arrow.Table.from_pylist(batch, schema))
                    batch = []
            writer.write_table(self._arrow.Table.from_pylist(batch, schema))

    def __exit__(self, *details: Any) -> None:
        self._spool_file.close()
        self._spool.unlink(missing_ok=True)
        super().__exit__(*details)


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

    def cell(self, value: Any) -> Any:
        return encode(value).decode() if self.kind == "json" and value is not None else value


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
        and isinstance(call["function"].get("arguments"), str)
        for call in value
    )
