"""A gateway with thousands of keys reads those that have changed, and holds little of each."""

import asyncio
import gc
import tracemalloc
from collections.abc import Collection

import pytest
from sqlalchemy import insert, update

from corral import database
from corral.errors import StoreError
from corral.keys.keyring import Keyring
from corral.keys.store import Changes, Keys, digest
from corral.keys.tables import keys as table
from corral.keys.usage import Ledger
from corral.settings import Settings
from tests.unit.keys.conftest import Make

MANY = 2000
# Measured: 687 with `rpm`; it was 1,400.
MOST_BYTES = 900


def many(settings: Settings, count: int, prefix: str = "key_many") -> None:
    rows = [
        {
            "id": f"{prefix}{number}",
            "name": "a",
            "owner": f"{prefix}{number}",
            "digest": digest(f"{prefix}{number}".encode()).hex(),
            "hint": "corral-…",
            "scopes": ["inference", "files"],
            "rpm": 60,
            "created": 1.0,
        }
        for number in range(count)
    ]
    with database.writing(database.ready(settings)) as connection:
        connection.execute(insert(table), rows)


class Noted(Keys):
    """Remembers what it has read."""

    read: list[Changes]

    def changes(self, since: int, known: Collection[str]) -> Changes:
        found = super().changes(since, known)
        self.read.append(found)
        return found


@pytest.fixture
def read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Changes]:
    monkeypatch.setattr(Noted, "read", [], raising=False)
    monkeypatch.setattr("corral.keys.keyring.Keys", Noted)
    return Noted.read


def opens(ring: Keyring, secret: str) -> bool:
    return ring.find(secret.encode()) is not None


async def test_a_change_reads_what_has_changed_and_no_more(
    settings: Settings, keys: Keys, make: Make, read: list[Changes]
) -> None:
    many(settings, MANY)
    id, secret = make(budget=5)
    ring = Keyring(settings, Ledger(settings))
    new, again = keys.rotate(id, 60)
    await ring.refresh()
    await ring.refresh()
    keys.revoke(new.row["id"])
    await ring.refresh()
    assert [len(found.rows) for found in read] == [MANY + 1, 2, 1]
    assert [found.left is None for found in read] == [False, True, True]
    assert (opens(ring, secret), opens(ring, again)) == (True, False)
    keys.revoke(id, forget=True)
    await ring.refresh()
    assert not opens(ring, secret)
    assert len(read[-1].rows) == 0
    assert opens(ring, "key_many7")
    assert len(ring._digests) == MANY + 1


async def test_changes_made_at_once_are_all_seen(
    settings: Settings, keys: Keys, make: Make
) -> None:
    ring = Keyring(settings, Ledger(settings))

    async def client() -> list[str]:
        secrets = []
        for _ in range(5):
            secrets.append((await asyncio.to_thread(make))[1])
            await ring.refresh()
        return secrets

    for secrets in await asyncio.gather(*(client() for _ in range(6))):
        assert all(opens(ring, secret) for secret in secrets)


async def test_another_database_in_its_place_is_read_whole(settings: Settings, make: Make) -> None:
    _, old = make()
    ring = Keyring(settings, Ledger(settings))
    many(settings, 2, "key_other")  # as old as the first change, and yet not known
    with database.writing(database.ready(settings)) as connection:
        connection.execute(update(table).where(table.c.id != "key_other1").values(changed=0))
    _, new = make()
    await ring.refresh()
    assert [opens(ring, each) for each in (old, new, "key_other0", "key_other1")] == [True] * 4


async def test_after_the_database_was_gone_all_of_it_is_read_again(
    settings: Settings, keys: Keys, make: Make, read: list[Changes]
) -> None:
    _, secret = make()
    ring = Keyring(settings, Ledger(settings))
    assert settings.database_file is not None
    away = settings.database_file.with_name("away")
    settings.database_file.rename(away)
    with pytest.raises(StoreError, match="gone"):
        await ring.refresh()
    assert opens(ring, secret)
    away.rename(settings.database_file)
    await ring.refresh()
    assert [len(found.rows) for found in read] == [1, 1]
    assert opens(ring, secret)


def test_a_key_takes_little_memory(settings: Settings) -> None:
    many(settings, MANY)
    Keyring(settings, Ledger(settings))  # what is made once is there
    gc.collect()
    tracemalloc.start()
    try:
        ring = Keyring(settings, Ledger(settings))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ring._digests) == MANY
    assert taken / MANY < MOST_BYTES
