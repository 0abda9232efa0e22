"""Keys in the database: what is kept of them, how they end, how they are rotated."""

import time
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from corral import database
from corral.errors import Conflict, NotFound
from corral.keys.keyring import Keyring
from corral.keys.schemas import KeyRequest, UsageQuery, key_object
from corral.keys.store import Changes, Keys
from corral.keys.usage import Ledger, read
from corral.settings import Settings
from tests.unit.keys.conftest import Make


async def spend(settings: Settings, key_id: str, *counts: int) -> None:
    ledger = Ledger(settings)
    ledger.add(key_id, "tiny", counts)  # type: ignore[arg-type]
    await ledger.flush()


def test_of_a_key_only_its_digest_is_kept(settings: Settings, make: Make) -> None:
    secrets = {make()[1] for _ in range(20)}
    assert len(secrets) == 20
    assert all(each.startswith("corral-") and len(each) >= 7 + 43 for each in secrets)
    with database.reading(database.ready(settings)) as connection:
        rows = [str(tuple(row)) for row in connection.execute(text("SELECT * FROM keys"))]
    files = [p.read_bytes() for p in settings.data_dir.glob("corral.db*")]
    for secret in secrets:
        assert not any(secret in row for row in rows)
        assert not any(secret.encode() in content for content in files)


def test_without_a_key_there_is_no_database(settings: Settings, keys: Keys) -> None:
    assert (keys.list(), keys.version(), keys.changes(-1, ())) == ([], 0, Changes(0))
    assert not database.exists(settings)


def test_what_a_key_is(keys: Keys, make: Make) -> None:
    before = int(time.time())
    id, secret = make("files", "inference", rpm=5, models=["tiny", "gpt-4o"], expires_at=2**37)
    made = key_object(keys.get(id))
    assert before <= made.pop("created_at") <= time.time()
    assert made == {
        "id": id,
        "object": "corral.key",
        "name": "a",
        "owner": id,
        "hint": f"corral-…{secret[-4:]}",
        "status": "active",
        "scopes": ["inference", "files"],
        "models": ["gpt-4o", "tiny"],
        "rpm": 5,
        "tpm": None,
        "budget": None,
        "priority": "normal",
        "spent": 0,
        "last_used": None,
        "expires_at": 2**37,
        "revoked_at": None,
    }


@pytest.mark.parametrize(
    ("asked", "owner"),
    [({"scopes": ("admin",)}, "local"), ({"scopes": ("admin",), "owner": "a"}, "a"), ({"owner": "b@c"}, "b@c")],
)  # fmt: skip
def test_whose_key_it_is(keys: Keys, asked: dict[str, Any], owner: str) -> None:
    key, _ = keys.create(KeyRequest.model_validate({"name": "a", **asked}))
    assert key.row["owner"] == owner


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"name": " "}, {"name": "a\nb"}, {"name": "x" * 101}, {"scopes": []},
        {"scopes": ["root"]}, {"models": []}, {"models": [""]}, {"models": ["a\0"]}, {"rpm": 0},
        {"tpm": -1}, {"budget": 2**53}, {"expires_at": -1}, {"owner": "../a"}, {"owner": "a b"},
        {"made": 1}, {"priority": "highest"},
    ],
)  # fmt: skip
def test_a_key_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KeyRequest.model_validate({"name": "a", **wrong})


def test_a_revoked_key_stays_in_the_list_until_it_is_forgotten(keys: Keys, make: Make) -> None:
    id, _ = make()
    first = keys.version()
    assert keys.revoke(id).status == "revoked"
    at = keys.get(id).row["revoked"]
    assert keys.revoke(id).row["revoked"] == at
    assert keys.version() > first
    keys.revoke(id, forget=True)
    assert keys.list() == []
    for gone in (keys.get, keys.revoke):
        with pytest.raises(NotFound, match=f"no key `{id}`"):
            gone(id)


def test_a_key_expires(keys: Keys, make: Make) -> None:
    late, soon = make(expires_at=1)[0], make(expires_at=int(time.time()) + 60)[0]
    assert {key.row["id"]: key.status for key in keys.list()} == {late: "expired", soon: "active"}


def test_a_rotated_key_is_the_same_again_and_the_old_one_ends(keys: Keys, make: Make) -> None:
    id, secret = make("files", "training", models=["tiny"], rpm=3, owner="team", priority="low")
    new, again = keys.rotate(id, 60)
    assert again != secret
    old = keys.get(id)
    for name in ("name", "owner", "scopes", "models", "rpm", "tpm", "budget", "priority"):
        assert new.row[name] == old.row[name], name
    assert new.row["expires_at"] is None
    assert time.time() + 50 < old.row["expires_at"] < time.time() + 70
    keys.rotate(id, 10_000)
    assert keys.get(id).row["expires_at"] == old.row["expires_at"], "never later than it was"
    keys.rotate(id, 0)
    with pytest.raises(Conflict, match="is expired"):
        keys.rotate(id, 0)


async def test_rotation_gives_no_new_budget(keys: Keys, make: Make, settings: Settings) -> None:
    id, _ = make(budget=100)
    await spend(settings, id, 1, 0, 30, 20, 40)
    assert keys.get(id).spent == 70
    assert keys.rotate(id, 0)[0].row["budget"] == 30


async def test_usage_adds_up_by_day_and_outlives_its_key(settings: Settings, keys: Keys, make: Make) -> None:  # fmt: skip
    id, _ = make()
    now = 86400.0 * 20000
    ledger = Ledger(settings, clock=lambda: now)
    ledger.add(id, "tiny", (1, 0, 10, 4, 5))
    ledger.add(id, "tiny", (1, 1, 10, 4, 5))
    assert ledger.tokens(id) == 30
    await ledger.flush()
    assert ledger.tokens(id) == 0
    ledger.add(id, "tiny", (1, 0, 1, 1, 1))
    now += 86400
    ledger.add(id, "other", (1, 0, 2, 0, 2))
    await ledger.flush()
    keys.revoke(id, forget=True)
    rows = read(settings, UsageQuery())
    assert [
        (r["day"], r["model"], r["requests"], r["errors"], r["prompt_tokens"]) for r in rows
    ] == [
        ("2024-10-05", "other", 1, 0, 2),
        ("2024-10-04", "tiny", 3, 1, 21),
    ]
    assert (rows[0]["name"], rows[0]["key"]) == (None, id)
    assert len(read(settings, UsageQuery.of(since="2024-10-05"))) == 1
    assert len(read(settings, UsageQuery.of(until="2024-10-04"))) == 1
    assert len(read(settings, UsageQuery(model="tiny"))) == 1
    assert read(settings, UsageQuery(key="other")) == []


def test_a_keyring_learns_of_every_key(settings: Settings, make: Make) -> None:
    id, secret = make("files")
    ring = Keyring(settings, Ledger(settings))
    account = ring.find(secret.encode())
    assert account is not None
    assert (account.caller.id, account.caller.owner) == (id, id)
    assert ring.find(secret.encode()[:-1]) is None
