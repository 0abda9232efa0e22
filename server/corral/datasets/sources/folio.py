"""FOLIO's records as training rows: page by page, names for ids, one template, one journal."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from corral.datasets import formats
from corral.datasets.findings import Place
from corral.datasets.formats import Format
from corral.datasets.rows import Message, Row
from corral.datasets.sources import paging
from corral.datasets.sources.folio_kinds import Kind
from corral.datasets.sources.folio_names import Names
from corral.datasets.sources.journal import Journal
from corral.datasets.sources.paging import Page
from corral.datasets.sources.template import Template
from corral.datasets.strict_json import encode
from corral.errors import InvalidData, NotFound, PermissionDenied, UpstreamError

# Order lines are asked for by the ids of a page's orders, which must fit in a URL.
_PARENTS_IN_A_QUERY = 50
_MOST_LINES = 2000


class Source(Protocol):
    """What `collect` needs of a FOLIO system."""

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        """One answer, as parsed."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """Which records, and in which format their rows are written."""

    kind: Kind
    limit: int
    query: str = "cql.allRecords=1"
    random: bool = False
    seed: int = 1
    page_size: int = 100
    to: str = "openai"


class Summary(msgspec.Struct):
    """What became of a run. `passed_over` records gave no row: they have no title, were there
    already, or the template failed on them, which is a finding each."""

    total: int = 0
    rows: int = 0
    passed_over: int = 0
    missing_names: dict[str, int] = msgspec.field(default_factory=dict)


def collect(
    source: Source,
    wanted: Wanted,
    template: Template,
    journal: Journal,
    place: Place,
    progress: Callable[[int], object] = lambda rows: None,
) -> Summary:
    """Fetch until there are `limit` rows or no more records. Goes on where the journal ends."""
    reader = _Reader(source, wanted.kind, place)
    total = next((step["total"] for step in journal.past if "total" in step), None)
    if total is None:
        total = reader.count(wanted.query)
        journal.add([], {"total": total})
    summary = Summary(total=total, rows=journal.rows)
    seen, start = _done_before(journal, summary)
    progress(journal.rows)
    writer = formats.get(wanted.to)
    for number, page in enumerate(_pages(wanted, total)):
        if summary.rows >= wanted.limit:
            break
        if number < start:
            continue
        records = reader.records(page, wanted.query)
        room = wanted.limit - summary.rows
        rows, ids, passed_over = _rows(records, template, writer, place, seen, room)
        journal.add(rows, {"page": number, "ids": ids, "passed_over": passed_over})
        summary.rows += len(rows)
        summary.passed_over += passed_over
        progress(len(rows))
    summary.missing_names = dict(+reader.names.missing)
    return summary


def sorted_by_id(query: str) -> str:
    """The CQL query with an order, without which pages overlap."""
    return query if "sortby" in query.lower() else f"{query} sortBy id"


def _pages(wanted: Wanted, total: int) -> Iterator[Page]:
    if wanted.random:
        return paging.at_random(total, wanted.limit, wanted.page_size, wanted.seed)
    return paging.in_order(total, wanted.page_size)


def _done_before(journal: Journal, summary: Summary) -> tuple[set[str], int]:
    """The ids that are in the dataset, and the first page that is not."""
    seen: set[str] = set()
    start = 0
    for step in journal.past:
        if "page" in step:
            seen.update(step["ids"])
            summary.passed_over += step["passed_over"]
            start = step["page"] + 1
    return seen, start


def _by_number(number: Any) -> tuple[int, str]:
    return len(str(number)), str(number)


class _Reader:
    """Pages of one kind, with names and lines put into the records."""

    def __init__(self, source: Source, kind: Kind, place: Place) -> None:
        self.kind = kind
        self.path = kind.paths[0]
        self.source = source
        self.place = place
        self.names = Names(self._get_names)

    def count(self, query: str) -> int:
        """How many records there are; decides which of the kind's paths is used."""
        params = {"query": query, "limit": 0, "totalRecords": "exact"}
        for path in self.kind.paths:
            try:
                answer = self.source.get(path, params)
            except (PermissionDenied, NotFound) as error:
                if path == self.kind.paths[-1]:
                    raise
                self.place.note("", "other_path", f"{error.message}; trying {self.kind.paths[-1]}")
                continue
            self.path = path
            total = answer.get("totalRecords")
            if not isinstance(total, int):
                raise UpstreamError(f"FOLIO's answer to {path} has no totalRecords")
            return total
        raise AssertionError("unreachable: the last path returns or raises")

    def records(self, page: Page, query: str) -> list[dict[str, Any]]:
        """The records of a page that are wanted."""
        params = {"query": sorted_by_id(query), "offset": page.offset, "limit": page.limit}
        found = self.source.get(self.path, params).get(self.kind.key) or []
        if page.wanted is not None:
            found = [found[place] for place in page.wanted if place < len(found)]
        self._add_lines(found)
        self.names.add_names(found, self.kind.references)
        return found

    def _add_lines(self, records: list[dict[str, Any]]) -> None:
        lines = self.kind.lines
        if lines is None:
            return
        by_id = {record["id"]: record for record in records}
        for record in records:
            record[lines.name] = []
        ids = list(by_id)
        for start in range(0, len(ids), _PARENTS_IN_A_QUERY):
            parents = " or ".join(ids[start : start + _PARENTS_IN_A_QUERY])
            query = f"{lines.parent}==({parents}) sortBy id"
            answer = self.source.get(lines.path, {"query": query, "limit": _MOST_LINES})
            for line in answer.get(lines.key) or ():
                parent = by_id.get(line.get(lines.parent))
                if parent is not None:
                    parent[lines.name].append(line)
        for record in records:
            # 10000-10 comes after 10000-9.
            record[lines.name].sort(key=lambda line: _by_number(line.get(lines.number)))

    def _get_names(self, path: str, params: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self.source.get(path, params)
        except (PermissionDenied, NotFound) as error:
            self.place.warning("", "names_unread", f"{error.message}; its ids stay without names")
            return None


def _rows(
    records: list[dict[str, Any]],
    template: Template,
    writer: Format,
    place: Place,
    seen: set[str],
    room: int,
) -> tuple[list[bytes], list[str], int]:
    """The rows that the records give, at most `room`, the ids of those records, and how many
    others were passed over."""
    rows: list[bytes] = []
    ids: list[str] = []
    passed_over = 0
    for record in records:
        if len(rows) == room:
            break
        id = str(record.get("id"))
        row = None if id in seen else _row(record, template, place)
        value = row and writer.write(row, place)
        if not value:
            passed_over += 1
            continue
        rows.append(encode(value))
        ids.append(id)
        seen.add(id)
    return rows, ids, passed_over


def _row(record: dict[str, Any], template: Template, place: Place) -> Row | None:
    try:
        filled = template.fill(record)
    except InvalidData as error:
        place.error("", "template_failed", error.message)
        return None
    if filled is None:
        return None
    system = (Message("system", filled.system),) if filled.system else ()
    asked, told = Message("user", filled.user), Message("assistant", filled.answer)
    return Row("chat", messages=(*system, asked, told))
