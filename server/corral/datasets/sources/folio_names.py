"""FOLIO's ids turned into the names they stand for.

Beside each id a name is put: `instanceTypeId` gets `instanceTypeText`, `instanceFormatIds` gets
`instanceFormatTexts`, `vendor` gets `vendorText`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from corral.datasets.sources.folio_kinds import Reference

# A page of ids in one query stays well below the 4 KiB that gateways allow a URL.
_IDS_IN_A_QUERY = 50
_WHOLE_TABLE = 5000

Get = Callable[[str, dict[str, Any]], dict[str, Any] | None]


def text_key(field: str) -> str:
    """The name of the field that gets the name: `typeId` gives `typeText`."""
    for ending, text in (("Ids", "Texts"), ("Id", "Text")):
        if field.endswith(ending):
            return field[: -len(ending)] + text
    return field + "Text"


class Names:
    """The tables of names, each asked for once. `get` answers None where reading is not allowed;
    such tables and ids without a name are counted in `missing`."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._tables: dict[str, dict[str, str]] = {}
        self._unread: set[str] = set()
        self.missing: Counter[str] = Counter()

    def add_names(self, records: list[dict[str, Any]], references: Iterable[Reference]) -> None:
        """Put the names into the records. A table that no record points at is not read."""
        for reference in references:
            holders = [holder for record in records for holder in _holders(record, reference.field)]
            field = reference.field.rpartition(".")[2]
            ids = {id for holder in holders for id in _ids(holder[field])}
            self._read(reference, ids)
            for holder in holders:
                self._put(holder, field, reference)

    def _put(self, holder: dict[str, Any], field: str, reference: Reference) -> None:
        value = holder[field]
        table = self._tables.get(reference.path, {})
        names = [table.get(id) for id in _ids(value)]
        self.missing[reference.path] += names.count(None)
        if isinstance(value, list):
            holder[text_key(field)] = [name for name in names if name is not None]
        elif names and names[0] is not None:
            holder[text_key(field)] = names[0]
        else:
            # FOLIO has some names itself (contributorTypeText, from MARC): better than none.
            holder.setdefault(text_key(field), None)

    def _read(self, reference: Reference, ids: set[str]) -> None:
        table = self._tables.setdefault(reference.path, {})
        unknown = sorted(ids - table.keys())
        if not unknown or reference.path in self._unread:
            return
        if reference.whole:
            # Once: an id that is not there now will not be there later in the run.
            self._unread.add(reference.path)
            self._fill(reference, {"query": "cql.allRecords=1", "limit": _WHOLE_TABLE})
            return
        for start in range(0, len(unknown), _IDS_IN_A_QUERY):
            batch = unknown[start : start + _IDS_IN_A_QUERY]
            query = f"id==({' or '.join(batch)})"
            if not self._fill(reference, {"query": query, "limit": len(batch)}):
                self._unread.add(reference.path)
                return

    def _fill(self, reference: Reference, params: dict[str, Any]) -> bool:
        answer = self._get(reference.path, params)
        if answer is None:
            return False
        for entry in answer.get(reference.key) or ():
            name = entry.get(reference.label)
            if isinstance(entry.get("id"), str) and isinstance(name, str):
                self._tables[reference.path][entry["id"]] = name
        return True


def _ids(value: Any) -> list[str]:
    return [id for id in (value if isinstance(value, list) else [value]) if isinstance(id, str)]


def _holders(record: Any, field: str) -> Iterator[dict[str, Any]]:
    """The objects, at any depth, that have the last part of the path."""
    first, _, rest = field.partition(".")
    if isinstance(record, list):
        for item in record:
            yield from _holders(item, field)
    elif isinstance(record, dict) and record.get(first) is not None:
        if rest:
            yield from _holders(record[first], rest)
        else:
            yield record
