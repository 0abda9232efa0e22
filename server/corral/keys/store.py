"""Keys in the database: create, list, revoke, rotate. A key itself is shown once and never stored.

Stored is its SHA-256. A slow hash would gain nothing: it protects words that people choose, by making
guesses dear, and these keys are 256 random bits, beyond guessing at any price; it would only cost every
request. Synchronous, safe in any number of threads and processes: call it from async code through a
thread.
"""

import builtins
import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from corral import database
from corral.caller import HOUSE
from corral.errors import Conflict, NotFound
from corral.jobs.clock import now
from corral.keys.schemas import KeyRequest
from corral.keys.tables import keys, usage
from corral.registry.tables import counters
from corral.settings import Settings

PREFIX = "corral-"
SECRET_BYTES = 32
COUNTER = "keys"
FOR_A_GATEWAY = [
    keys.c[name]
    for name in (
        "id", "owner", "digest", "scopes", "models", "rpm", "tpm", "budget", "priority", "expires_at",
        "revoked",
    )
]  # fmt: skip

Status = Literal["active", "expired", "revoked"]


@dataclass(frozen=True)
class Key:
    """A key as it stands: its row, how it stands, the tokens used with it, the last day of use."""

    row: RowMapping
    status: Status
    spent: int
    last_used: str | None


@dataclass(frozen=True)
class Changes:
    """What a gateway has to take over: the rows that have changed, the tokens used with those of them
    that have a budget, and the ids of all that are left, None where none has gone."""

    version: int
    rows: Sequence[RowMapping] = ()
    spent: Mapping[str, int] = field(default_factory=dict)
    left: frozenset[str] | None = None


def digest(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


class Keys:
    """The keys of one data directory. Cheap to make; makes nothing before the first change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(self, request: KeyRequest) -> tuple[Key, str]:
        """Make a key; it, and the secret that nobody can tell again."""
        with database.writing(database.ready(self._settings)) as connection:
            return self._create(connection, request.values())

    def get(self, key_id: str) -> Key:
        """The key; NotFound."""
        with database.reading(database.ready(self._settings)) as connection:
            return _get(connection, key_id)

    def list(self) -> builtins.list[Key]:
        """Every key, the newest first, those that are over included."""
        if not database.exists(self._settings):
            return []
        with database.reading(database.ready(self._settings)) as connection:
            return _select(connection)

    def revoke(self, key_id: str, *, forget: bool = False) -> Key:
        """Let the key open nothing any more; asking again changes nothing. With `forget` it is not
        listed any more either. Its owner's things stay."""
        with database.writing(database.ready(self._settings)) as connection:
            _get(connection, key_id)
            live = update(keys).where(keys.c.id == key_id, keys.c.revoked.is_(None))
            connection.execute(live.values(revoked=now(), changed=_count_change(connection)))
            gone = _get(connection, key_id)
            if forget:
                connection.execute(delete(keys).where(keys.c.id == key_id))
            return gone

    def rotate(self, key_id: str, keep_seconds: float) -> tuple[Key, str]:
        """A second key like this one, with the same owner and what is left of its budget; this one
        ends after `keep_seconds`. The new key and its secret. Conflict unless it is active."""
        with database.writing(database.ready(self._settings)) as connection:
            old = _get(connection, key_id)
            if old.status != "active":
                raise Conflict(f"key `{key_id}` is {old.status}; make a new one", param="key_id")
            copied = (
                "name", "owner", "scopes", "models", "rpm", "tpm", "budget", "priority", "expires_at",
            )  # fmt: skip
            values = {name: old.row[name] for name in copied}
            if values["budget"] is not None:
                values["budget"] = max(0, values["budget"] - old.spent)
            end = func.min if connection.dialect.name == "sqlite" else func.least
            until = now() + keep_seconds
            sooner = end(func.coalesce(keys.c.expires_at, until), until)
            shorter = update(keys).where(keys.c.id == key_id)
            connection.execute(shorter.values(expires_at=sooner, changed=_count_change(connection)))
            return self._create(connection, values)

    # ---- for a gateway that runs ------------------------------------------------------------------

    def version(self) -> int:
        """Grows with every change; 0 before the first."""
        if not database.exists(self._settings):
            return 0
        with database.reading(database.ready(self._settings)) as connection:
            return _version(connection)

    def changes(self, since: int, known: Collection[str]) -> Changes:
        """What has changed since that version, for a gateway that knows these keys; since -1: all."""
        if not database.exists(self._settings):
            return Changes(0)
        with database.reading(database.ready(self._settings)) as connection:
            # The version first: what changes meanwhile is read again the next time.
            return _changes(connection, _version(connection), since, known)

    def _create(self, connection: Connection, values: dict[str, Any]) -> tuple[Key, str]:
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        id = "key_" + secrets.token_hex(8)
        owner = values["owner"] or (HOUSE if "admin" in values["scopes"] else id)
        row = {
            **values,
            "id": id,
            "owner": owner,
            "digest": digest(secret.encode()).hex(),
            "hint": f"{PREFIX}…{secret[-4:]}",
            "created": now(),
            "changed": _count_change(connection),
        }
        connection.execute(insert(keys).values(row))
        return _get(connection, id), secret


def _version(connection: Connection) -> int:
    found = select(counters.c.value).where(counters.c.name == COUNTER)
    return int(connection.execute(found).scalar_one())


def _count_change(connection: Connection) -> int:
    """The version that this transaction makes. Holds the counter to its end, so versions come into the
    database in their order."""
    grown = update(counters).where(counters.c.name == COUNTER)
    connection.execute(grown.values(value=counters.c.value + 1))
    return _version(connection)


def _changes(connection: Connection, version: int, since: int, known: Collection[str]) -> Changes:
    changed = keys.c.changed > since
    rows = connection.execute(select(*FOR_A_GATEWAY).where(changed)).mappings().all()
    found = {row["id"] for row in rows}.union(known if since >= 0 else ())
    left = None
    if since < 0 or connection.execute(select(func.count()).select_from(keys)).scalar() != len(
        found
    ):
        left = frozenset(connection.execute(select(keys.c.id)).scalars())
        if not left <= found:
            # Not the database that this gateway knew.
            return _changes(connection, version, -1, ())
    budgets = select(keys.c.id).where(changed, keys.c.budget.is_not(None))
    tokens = func.sum(usage.c.prompt_tokens + usage.c.generated_tokens)
    used = select(usage.c.key_id, tokens).where(usage.c.key_id.in_(budgets))
    spent = {id: int(sum) for id, sum in connection.execute(used.group_by(usage.c.key_id))}
    return Changes(version, rows, spent, left)


def _get(connection: Connection, key_id: str) -> Key:
    found = _select(connection, key_id)
    if not found:
        raise NotFound(
            f"there is no key `{key_id[:80]}`; `corral keys ls` lists them", param="key_id"
        )
    return found[0]


def _select(connection: Connection, key_id: str | None = None) -> list[Key]:
    tokens = func.sum(usage.c.prompt_tokens + usage.c.generated_tokens)
    summed = select(usage.c.key_id, tokens.label("spent"), func.max(usage.c.day).label("last_used"))
    if key_id is not None:
        summed = summed.where(usage.c.key_id == key_id)
    used = summed.group_by(usage.c.key_id).subquery()
    query = (
        select(keys, used.c.spent, used.c.last_used, (keys.c.expires_at <= now()).label("late"))
        .outerjoin(used, used.c.key_id == keys.c.id)
        .order_by(keys.c.created.desc(), keys.c.id)
    )
    if key_id is not None:
        query = query.where(keys.c.id == key_id)
    return [_key(row) for row in connection.execute(query).mappings()]


def _key(row: RowMapping) -> Key:
    status: Status = "expired" if row["late"] else "active"
    if row["revoked"] is not None:
        status = "revoked"
    return Key(row, status, int(row["spent"] or 0), row["last_used"])
