"""What the FOLIO fake holds: tables of names, the first user's two titles, and many others."""

from random import Random
from typing import Any
from uuid import UUID

Record = dict[str, Any]


def uuid(number: int) -> str:
    """A UUID that is the same in every run, spread as random ones are."""
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 + 1) % 2**128))


TEXT, NOTATED_MUSIC = uuid(1), uuid(2)
SINGLE_UNIT, MONOGRAPH, SERIAL = uuid(11), uuid(12), uuid(13)
PERSONAL, CORPORATE = uuid(21), uuid(22)
LCC, DEWEY = uuid(31), uuid(32)
PURCHASE, VENDOR, OTHER_VENDOR = uuid(41), uuid(51), uuid(52)


def _table(key: str, names: dict[str, str], label: str = "name") -> tuple[str, list[Record]]:
    return key, [{"id": id, label: name} for id, name in names.items()]


TABLES: dict[str, tuple[str, list[Record]]] = {
    "/instance-types": _table("instanceTypes", {TEXT: "text", NOTATED_MUSIC: "notated music"}),
    "/modes-of-issuance": _table(
        "issuanceModes", {SINGLE_UNIT: "single unit", MONOGRAPH: "Monograph", SERIAL: "serial"}
    ),
    "/contributor-name-types": _table(
        "contributorNameTypes", {PERSONAL: "Personal name", CORPORATE: "Corporate name"}
    ),
    "/contributor-types": _table("contributorTypes", {}),
    "/classification-types": _table("classificationTypes", {LCC: "LC", DEWEY: "Dewey"}),
    "/orders/acquisition-methods": _table("acquisitionMethods", {PURCHASE: "Purchase"}, "value"),
    "/organizations/organizations": _table(
        "organizations", {VENDOR: "GOBI Library Solutions", OTHER_VENDOR: "Otto Harrassowitz"}
    ),
}

COURTS: Record = {
    "id": uuid(101),
    "hrid": "in00000000101",
    "title": "Vacancies in certain judgeships.",
    "contributors": [],
    "subjects": [
        {"value": "Courts", "authorityId": None},
        {"value": "Judges"},
        {"value": "United States--Officials and employees"},
        {"value": "Electronic books"},
    ],
    "classifications": [],
    "publication": [
        {
            "publisher": "[publisher not identified]",
            "place": "Washington",
            "dateOfPublication": "1935",
            "role": "Publication",
        }
    ],
    "instanceTypeId": TEXT,
    "modeOfIssuanceId": SINGLE_UNIT,
}
STATISTICS: Record = {
    "id": uuid(102),
    "hrid": "in00000000102",
    "title": "Statistical applications for chemistry, manufacturing and controls (CMC) in the "
    "pharmaceutical industry /Richard K. Burdick [and others].",
    "contributors": [],
    "publication": [{"publisher": "Springer", "place": "Cham :", "dateOfPublication": "2017"}],
    "instanceTypeId": TEXT,
    "modeOfIssuanceId": MONOGRAPH,
}


def instances(count: int, seed: int = 1) -> tuple[str, list[Record]]:
    """Instances of many shapes; every 50th has no title."""
    rng = Random(seed)
    return "instances", [_instance(number, rng) for number in range(1000, 1000 + count)]


def _instance(number: int, rng: Random) -> Record:
    record: Record = {
        "id": uuid(number),
        "title": None if number % 50 == 0 else f'Title {number}: "quotes", ünïcode & 书 <b>',
        "contributors": [
            {"name": f"Author {number}", "contributorNameTypeId": PERSONAL, "primary": True}
        ][: rng.randint(0, 1)],
        "subjects": rng.choice(([], ["Old style"], [{"value": "Law"}, {"value": "Art"}])),
        "classifications": [{"classificationNumber": f"QA{number}", "classificationTypeId": LCC}][
            : rng.randint(0, 1)
        ],
        "publication": [{"publisher": "Brill,", "place": "Leiden ;"}][: rng.randint(0, 1)],
        "instanceTypeId": rng.choice((TEXT, NOTATED_MUSIC)),
        "modeOfIssuanceId": rng.choice((SINGLE_UNIT, SERIAL, None)),
        "languages": [rng.choice(("eng", "ger"))],
    }
    if number % 7 == 0:
        # A name that was deleted since.
        record["instanceTypeId"] = uuid(9)
    return record


def orders() -> dict[str, tuple[str, list[Record]]]:
    """One order of two lines, and one without lines."""
    order = {"id": uuid(201), "orderType": "One-Time", "vendor": VENDOR, "acqUnitIds": []}
    empty = {"id": uuid(202), "orderType": "Ongoing", "vendor": uuid(9)}
    lines = [
        {
            "id": uuid(210 + number),
            "purchaseOrderId": order["id"],
            "poLineNumber": f"10000-{number + 9}",
            "titleOrPackage": title,
            "contributors": [{"contributor": "Herbert, Frank", "contributorNameTypeId": PERSONAL}],
            "publisher": "Ace Books",
            "publicationDate": "1965",
            "orderFormat": "Physical Resource",
            "acquisitionMethod": PURCHASE,
            "cost": {"listUnitPrice": 29.95, "quantityPhysical": 2, "currency": "USD"},
            "fundDistribution": [
                {"code": "FICTION", "distributionType": "percentage", "value": 100.0}
            ],
        }
        for number, title in enumerate(("Dune /", "Dune messiah"))
    ]
    return {
        "/orders/composite-orders": ("purchaseOrders", [order, empty]),
        "/orders/order-lines": ("poLines", lines),
    }


def invoices() -> dict[str, tuple[str, list[Record]]]:
    """One invoice of one line."""
    invoice = {
        "id": uuid(301),
        "vendorInvoiceNo": "INV-7",
        "vendorId": OTHER_VENDOR,
        "invoiceDate": "2024-05-01T00:00:00.000+00:00",
        "currency": "EUR",
        "paymentMethod": "EFT",
    }
    line = {
        "id": uuid(302),
        "invoiceId": invoice["id"],
        "description": "Beiträge zur Botanik",
        "quantity": 1,
        "subTotal": 80.5,
        "fundDistributions": [{"code": "BOT", "distributionType": "percentage", "value": 100}],
    }
    return {
        "/invoice/invoices": ("invoices", [invoice]),
        "/invoice/invoice-lines": ("invoiceLines", [line]),
    }
