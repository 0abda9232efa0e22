"""What administrators send and see of keys and usage."""

import datetime
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from corral.caller import PERMISSIONS, Permission, Priority
from corral.openapi import Shown

if TYPE_CHECKING:
    from corral.keys.store import Key

# What a database's BIGINT and JavaScript's numbers can both hold.
MOST = 2**53 - 1
# The year 9999, as seconds.
LATEST = 253_402_300_799
KEEP_SECONDS = 3600.0
KEEP_MAX_SECONDS = 366 * 86400.0
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,199}\Z")
SHOWN_OWNER = {"pattern": "^([A-Za-z0-9][A-Za-z0-9._@-]{0,199})?$"}
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")


def _day(value: object) -> object:
    """`2026-11-21` only: pydantic takes numbers for seconds since 1970."""
    if isinstance(value, str) and not DAY.match(value):
        raise ValueError("a day looks like 2026-11-21")
    return value


Day = Annotated[datetime.date, BeforeValidator(_day)]
Limit = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class KeyRequest(BaseModel):
    """`POST /corral/v1/keys`. `owner`: whose things are made and seen with it; empty: the key's own, for
    an administrator's key the house's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    owner: Annotated[str, Field(json_schema_extra=SHOWN_OWNER)] = ""
    scopes: tuple[Permission, ...] = Field(("inference",), min_length=1)
    models: tuple[ModelName, ...] | None = Field(None, min_length=1, max_length=1000)
    rpm: Limit | None = None
    tpm: Limit | None = None
    budget: Limit | None = None
    priority: Priority = "normal"
    expires_at: Annotated[int, Field(strict=True, ge=0, le=LATEST)] | None = None

    @field_validator("name")
    @classmethod
    def _is_printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("only printable characters")
        return name

    @field_validator("owner")
    @classmethod
    def _is_an_owner(cls, owner: str) -> str:
        if owner and not OWNER.match(owner):
            raise ValueError("letters, digits, `.`, `_`, `@` and `-`, up to 200")
        return owner

    @field_validator("models")
    @classmethod
    def _are_printable(cls, models: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if any(not name.isprintable() for name in models or ()):
            raise ValueError("only printable characters")
        return models

    def values(self) -> dict[str, Any]:
        """For the row."""
        scopes = [name for name in PERMISSIONS if name in self.scopes]
        models = None if self.models is None else sorted(set(self.models))
        return {**self.model_dump(), "scopes": scopes, "models": models}


class RotateRequest(BaseModel):
    """`POST /corral/v1/keys/{id}/rotate`: how long the old key goes on."""

    model_config = ConfigDict(extra="forbid")

    keep_seconds: float = Field(
        KEEP_SECONDS, strict=True, ge=0, le=KEEP_MAX_SECONDS, allow_inf_nan=False
    )


class ShownKey(Shown):
    """`key_object`."""

    id: str
    object: Literal["corral.key"]
    name: str
    owner: str
    hint: str
    status: Literal["active", "expired", "revoked"]
    scopes: list[Permission]
    models: list[str] | None
    rpm: int | None
    tpm: int | None
    budget: int | None
    priority: Priority
    spent: int
    last_used: str | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class ShownSecret(ShownKey):
    """A key that has just been made, with what opens."""

    key: str


class DeletedKey(Shown):
    """The answer to DELETE."""

    id: str
    object: Literal["corral.key"]
    deleted: Literal[True]


class ShownUsage(Shown):
    """What one key used of one model on one day."""

    object: Literal["corral.usage"]
    day: str
    key: str
    name: str | None
    owner: str | None
    model: str
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class UsageList(Shown):
    """The answer to GET /corral/v1/usage."""

    object: Literal["list"]
    data: list[ShownUsage]
    has_more: bool


def key_object(key: "Key") -> dict[str, Any]:
    """A key as the API shows it, without the secret; times in whole seconds since 1970."""
    row = key.row
    return {
        "id": row["id"],
        "object": "corral.key",
        "name": row["name"],
        "owner": row["owner"],
        "hint": row["hint"],
        "status": key.status,
        "scopes": row["scopes"],
        "models": row["models"],
        "rpm": row["rpm"],
        "tpm": row["tpm"],
        "budget": row["budget"],
        "priority": row["priority"],
        "spent": key.spent,
        "last_used": key.last_used,
        "created_at": int(row["created"]),
        "expires_at": _seconds(row["expires_at"]),
        "revoked_at": _seconds(row["revoked"]),
    }


class UsageQuery(BaseModel):
    """Which usage: days in UTC, both ends included."""

    model_config = ConfigDict(frozen=True)

    key: str | None = None
    model: str | None = None
    since: datetime.date | None = None
    until: datetime.date | None = None

    @classmethod
    def of(cls, **given: Any) -> Self:
        """The query; pydantic's error names what is wrong."""
        return cls.model_validate(given)


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)
