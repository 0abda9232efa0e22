"""Ids turned into names."""

from typing import Any

import pytest

from corral.datasets.sources.folio_kinds import INVENTORY, KINDS, Reference, kind_of
from corral.datasets.sources.folio_names import Names, text_key
from corral.errors import BadRequest

TYPE = Reference("typeId", "/types", "types")
VENDOR = Reference("vendor", "/organizations", "organizations", whole=False)


class Tables:
    """Answers from dicts, and remembers what was asked."""

    def __init__(self, **tables: dict[str, str]) -> None:
        self.tables = tables
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append((path, params))
        key = path.removeprefix("/")
        if key not in self.tables:
            return None
        return {key: [{"id": id, "name": name} for id, name in self.tables[key].items()]}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("instanceTypeId", "instanceTypeText"),
        ("modeOfIssuanceId", "modeOfIssuanceText"),
        ("instanceFormatIds", "instanceFormatTexts"),
        ("vendor", "vendorText"),
    ],
)
def test_names_of_fields(field: str, text: str) -> None:
    assert text_key(field) == text


def test_names_are_put_beside_ids_at_any_depth() -> None:
    tables = Tables(types={"1": "text", "2": "music"})
    references = [
        TYPE,
        Reference("parts.typeId", "/types", "types"),
        Reference("parts.more.typeIds", "/types", "types"),
    ]
    record = {"typeId": "1", "parts": [{"typeId": "2"}, {"more": {"typeIds": ["1", "9", "2"]}}, {}]}
    names = Names(tables.get)
    names.add_names([record], references)
    assert record == {
        "typeId": "1",
        "typeText": "text",
        "parts": [
            {"typeId": "2", "typeText": "music"},
            {"more": {"typeIds": ["1", "9", "2"], "typeTexts": ["text", "music"]}},
            {},
        ],
    }
    assert names.missing == {"/types": 1}


def test_a_table_is_read_once_and_only_when_a_record_needs_it() -> None:
    tables = Tables(types={"1": "text"})
    names = Names(tables.get)
    names.add_names([{"title": "no id"}, {"typeId": None}], [TYPE])
    assert tables.asked == []
    for _ in range(3):
        names.add_names([{"typeId": "1"}, {"typeId": "gone"}], [TYPE])
    assert [path for path, _ in tables.asked] == ["/types"]


def test_of_a_large_table_only_the_ids_that_occur_are_asked_for_once() -> None:
    tables = Tables(organizations={f"{n}": f"Vendor {n}" for n in range(120)})
    names = Names(tables.get)
    records: list[dict[str, Any]] = [{"vendor": f"{n % 120}"} for n in range(240)]
    names.add_names(records, [VENDOR])
    assert records[119]["vendorText"] == "Vendor 119"
    assert [params["limit"] for _, params in tables.asked] == [50, 50, 20]
    assert tables.asked[0][1]["query"].startswith("id==(0 or 1 or 10 or ")
    names.add_names([{"vendor": "7"}], [VENDOR])
    assert len(tables.asked) == 3


@pytest.mark.parametrize("reference", [TYPE, VENDOR])
def test_a_table_that_may_not_be_read_is_asked_for_once(reference: Reference) -> None:
    tables = Tables()
    names = Names(tables.get)
    for number in range(3):
        record = {reference.field: f"{number}"}
        names.add_names([record], [reference])
        assert record[text_key(reference.field)] is None
    assert len(tables.asked) == 1
    assert names.missing == {reference.path: 3}


def test_folios_own_text_is_better_than_none() -> None:
    names = Names(Tables(types={}).get)
    record = {"typeId": "9", "typeText": "from MARC"}
    names.add_names([record], [TYPE])
    assert record["typeText"] == "from MARC"


def test_entries_of_a_table_that_are_odd_do_no_harm() -> None:
    answer = {
        "types": [{"id": "1"}, {"name": "x"}, {"id": "2", "name": None}, {"id": "3", "name": "c"}]
    }
    names = Names(lambda path, params: answer)
    record = {"typeId": "3"}
    names.add_names([record, {"typeId": ["1", None, 7]}], [TYPE])
    assert record["typeText"] == "c"


def test_kinds_are_known_by_name() -> None:
    assert kind_of("inventory") is INVENTORY
    with pytest.raises(
        BadRequest, match="unknown kind 'items'; allowed: inventory, orders, invoices"
    ):
        kind_of("items")
    fields = {reference.field for reference in INVENTORY.references}
    assert {"instanceTypeId", "modeOfIssuanceId", "contributors.contributorNameTypeId"} <= fields
    assert "classifications.classificationTypeId" in fields
    assert all(kind.template == f"{name}.jinja" for name, kind in KINDS.items())
