"""What can be fetched from FOLIO, where it is, and which of its ids stand for names."""

import msgspec

from corral.errors import BadRequest


class Reference(msgspec.Struct, frozen=True):
    """A field that holds ids of another table. `field` is a path such as `contributors.typeId`;
    lists on the way are gone through. `whole` tables are small and read once; of the others only
    the ids that occur are asked for."""

    field: str
    path: str
    key: str
    label: str = "name"
    whole: bool = True


class Lines(msgspec.Struct, frozen=True):
    """Records that belong to others: the lines of an order, put into it as `name`, in the order
    of their `number`."""

    name: str
    path: str
    key: str
    parent: str
    number: str


class Kind(msgspec.Struct, frozen=True):
    """One kind of record. The second of `paths` is tried where the first is not allowed."""

    name: str
    paths: tuple[str, ...]
    key: str
    template: str
    references: tuple[Reference, ...]
    lines: Lines | None = None


_CONTRIBUTOR_NAME_TYPES = ("/contributor-name-types", "contributorNameTypes")
_CONTRIBUTOR_TYPES = ("/contributor-types", "contributorTypes")
_ORGANIZATIONS = ("/organizations/organizations", "organizations")
_UNITS = ("/acquisitions-units/units", "acquisitionsUnits")

INVENTORY = Kind(
    name="inventory",
    paths=("/instance-storage/instances", "/inventory/instances"),
    key="instances",
    template="inventory.jinja",
    references=(
        Reference("instanceTypeId", "/instance-types", "instanceTypes"),
        Reference("modeOfIssuanceId", "/modes-of-issuance", "issuanceModes"),
        Reference("instanceFormatIds", "/instance-formats", "instanceFormats"),
        Reference("natureOfContentTermIds", "/nature-of-content-terms", "natureOfContentTerms"),
        Reference("statusId", "/instance-statuses", "instanceStatuses"),
        Reference("statisticalCodeIds", "/statistical-codes", "statisticalCodes"),
        Reference("contributors.contributorNameTypeId", *_CONTRIBUTOR_NAME_TYPES),
        Reference("contributors.contributorTypeId", *_CONTRIBUTOR_TYPES),
        Reference(
            "classifications.classificationTypeId", "/classification-types", "classificationTypes"
        ),
        Reference("identifiers.identifierTypeId", "/identifier-types", "identifierTypes"),
        Reference("notes.instanceNoteTypeId", "/instance-note-types", "instanceNoteTypes"),
        Reference("subjects.sourceId", "/subject-sources", "subjectSources"),
        Reference("subjects.typeId", "/subject-types", "subjectTypes"),
        Reference(
            "alternativeTitles.alternativeTitleTypeId",
            "/alternative-title-types",
            "alternativeTitleTypes",
        ),
        Reference(
            "electronicAccess.relationshipId",
            "/electronic-access-relationships",
            "electronicAccessRelationships",
        ),
    ),
)
ORDERS = Kind(
    name="orders",
    paths=("/orders/composite-orders", "/orders-storage/purchase-orders"),
    key="purchaseOrders",
    template="orders.jinja",
    lines=Lines("poLines", "/orders/order-lines", "poLines", "purchaseOrderId", "poLineNumber"),
    references=(
        Reference("vendor", *_ORGANIZATIONS, whole=False),
        Reference("acqUnitIds", *_UNITS),
        Reference(
            "poLines.acquisitionMethod",
            "/orders/acquisition-methods",
            "acquisitionMethods",
            "value",
        ),
        Reference("poLines.contributors.contributorNameTypeId", *_CONTRIBUTOR_NAME_TYPES),
        Reference("poLines.physical.materialType", "/material-types", "mtypes"),
        Reference("poLines.eresource.materialType", "/material-types", "mtypes"),
        Reference("poLines.locations.locationId", "/locations", "locations"),
    ),
)
INVOICES = Kind(
    name="invoices",
    paths=("/invoice/invoices", "/invoice-storage/invoices"),
    key="invoices",
    template="invoices.jinja",
    lines=Lines(
        "invoiceLines", "/invoice/invoice-lines", "invoiceLines", "invoiceId", "invoiceLineNumber"
    ),
    references=(
        Reference("vendorId", *_ORGANIZATIONS, whole=False),
        Reference("acqUnitIds", *_UNITS),
        Reference("batchGroupId", "/batch-groups", "batchGroups"),
    ),
)
KINDS = {kind.name: kind for kind in (INVENTORY, ORDERS, INVOICES)}


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises BadRequest with the names there are."""
    if name not in KINDS:
        raise BadRequest(f"unknown kind {name!r}; allowed: {', '.join(KINDS)}", param="kind")
    return KINDS[name]
