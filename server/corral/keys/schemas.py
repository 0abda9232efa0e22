"""What administrators send and see of keys and usage."""

import datetime
import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from corral.caller import PERMISSIONS, Permission

if TYPE_CHECKING:
    from corral.keys.store import Key

# What a database's BIGINT and JavaScript's numbers can both hold.
MOST = 2**53 - 1
# The year 9999, as seconds.
LATEST = 253_402_300_799
KEEP_SECONDS = 3600.0
KEEP_MAX_SECONDS = 366 * 86400.0
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,199}\Z")

Limit = Annotated[int, Field(ge=1, le=MOST)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class KeyRequest(BaseModel):
    """`POST /corral/v1/keys`. `owner`: whose things are made and seen with it; empty: the key's own, for
    an administrator's key the house's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    owner: str = ""
    scopes: tuple[Permission, ...] = Field(("inference",), min_length=1)
    models: tuple[ModelName, ...] | None = Field(None, min_length=1, max_length=1000)
    rpm: Limit | None = None
    tpm: Limit | None = None
    budget: Limit | None = None
    expires_at: Annotated[int, Field(ge=0, le=LATEST)] | None = None

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

    keep_seconds: float = Field(KEEP_SECONDS, ge=0, le=KEEP_MAX_SECONDS, allow_inf_nan=False)


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
