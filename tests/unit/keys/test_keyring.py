"""The keys as a gateway knows them, and what they let through, over the application in process."""

import hmac
import json
import time
from typing import Any

import pytest
from fastapi import FastAPI

from corral import database
from corral.app import create_app
from corral.caller import ANYBODY, Caller
from corral.errors import StoreError
from corral.gateway.views import Views
from corral.keys.keyring import Keyring
from corral.keys.schemas import UsageQuery
from corral.keys.store import Keys
from corral.keys.usage import Ledger, read
from corral.registry.scan import scan
from corral.settings import Settings
from tests.fakes.asgi import Answer, call
from tests.unit.keys.conftest import Make, bearer


async def post(app: FastAPI, path: str, secret: str, body: Any) -> Answer:
    headers = {**bearer(secret), "content-type": "application/json"}
    return await call(app, "POST", path, json.dumps(body).encode(), headers)


def ring(settings: Settings, **more: Any) -> Keyring:
    wanted = Settings.model_validate({**settings.model_dump(), **more}) if more else settings
    return Keyring(wanted, Ledger(wanted))


def test_open_only_without_any_key_and_on_loopback(
    settings: Settings, keys: Keys, make: Make
) -> None:
    assert not ring(settings).closed
    assert ring(settings, host="0.0.0.0").closed
    assert ring(settings, api_keys=["k"]).closed
    id, _ = make(expires_at=1)
    assert ring(settings).closed, "expired"
    keys.revoke(id)
    assert ring(settings).closed, "revoked"
    keys.revoke(id, forget=True)
    assert not ring(settings).closed


def test_keys_of_the_settings_are_the_houses_and_may_everything(settings: Settings) -> None:
    account = ring(settings, api_keys=["first", "second"]).find(b"second")
    assert account is not None
    assert account.caller.owner == "local"
    assert account.caller.may("admin")
    assert account.caller.only is None
    assert account.caller.id.startswith("settings-")
    assert "second" not in account.caller.id


def test_an_expired_or_revoked_key_opens_nothing(
    settings: Settings, keys: Keys, make: Make
) -> None:
    (_, late), (revoked, gone), (_, good) = make(expires_at=1), make(), make(expires_at=2**33)
    keys.revoke(revoked)
    there = ring(settings)
    found = [there.find(secret.encode()) is not None for secret in (late, gone, good)]
    assert found == [False, False, True]


def test_a_key_expires_while_it_is_known(settings: Settings, make: Make) -> None:
    _, secret = make(expires_at=int(time.time()) + 1)
    there = ring(settings)
    while there.find(secret.encode()) is not None:
        assert time.time() < 2**33
    assert there.closed


def test_keys_are_compared_in_constant_time(
    settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = make()
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    there = ring(settings)
    monkeypatch.setattr("corral.keys.keyring.hmac.compare_digest", noted)
    assert there.find(secret.encode()) is not None
    assert len(compared) == 1
    assert secret.encode() not in compared[0]


async def test_limits_go_on_when_the_keys_change(settings: Settings, make: Make) -> None:
    _, secret = make(rpm=2)
    there = ring(settings)
    account = there.find(secret.encode())
    assert account is not None
    account.enter()
    make()
    await there.refresh()
    again = there.find(secret.encode())
    assert again is not None
    assert (b"x-ratelimit-remaining-requests", b"1") in again.headers()


async def test_a_budget_counts_what_other_gateways_have_stored(
    settings: Settings, make: Make
) -> None:
    id, secret = make(budget=100)
    here, there = ring(settings), ring(settings)
    account, other = here.find(secret.encode()), there.find(secret.encode())
    assert account is not None
    assert other is not None
    other.leave(other.enter(), "tiny", False, 60, 0, 30)
    await there.flush()
    account.leave(account.enter(), "tiny", False, 4, 0, 5)
    await here.flush()
    assert account.limits is not None
    assert account.limits.spent == 99
    assert Keys(settings).get(id).spent == 99


async def test_usage_that_cannot_be_stored_is_kept(
    settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, _ = make()
    ledger = Ledger(settings)
    ledger.add(id, "tiny", (1, 0, 2, 1, 3))
    writing = database.writing

    def locked(*_: Any) -> Any:
        ledger.add(id, "tiny", (1, 1, 0, 0, 0))  # comes meanwhile
        raise StoreError("locked")

    monkeypatch.setattr(database, "writing", locked)
    with pytest.raises(StoreError):
        await ledger.flush()
    monkeypatch.setattr(database, "writing", writing)
    await ledger.flush()
    (row,) = read(settings, UsageQuery())
    assert (row["requests"], row["errors"], row["prompt_tokens"], row["generated_tokens"]) == (
        2,
        1,
        2,
        3,
    )


async def test_without_a_database_none_is_made_for_usage(settings: Settings) -> None:
    ledger = Ledger(settings)
    ledger.add("local", "tiny", (1, 0, 2, 0, 3))
    await ledger.flush()
    assert not database.exists(settings)
    assert ledger.tokens("local") == 5


# ---- through the application ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "asked", "tools", "known"),
    [
        (["tiny"], "tiny", False, True),
        (["tiny"], "openai/tiny", False, True),
        (["tiny"], "gpt-4o", False, True),
        (["gpt-4o"], "tiny", False, True),
        (["gpt-4o"], "gpt-4o", True, True),
        (["openai/gpt-4o"], "other", False, True),
        (["tiny"], "other", False, False),
        (["tiny"], "tuned", False, False),
        (["tuned"], "tiny", False, False),
        (["nothing-yet"], "tiny", False, False),
    ],
)
async def test_a_key_for_some_models_asks_those_only(
    settings: Settings, make: Make, allowed: list[str], asked: str, tools: bool, known: bool
) -> None:
    caller = Caller("key_a", "a", frozenset({"inference"}), frozenset(allowed))
    view = Views().seen(scan(settings), caller)
    found = {name for name in (asked.removeprefix("openai/"),) if name in view.names()}
    assert bool(found) == known
    if known:
        assert view.find(asked, with_tools=tools).name in ("tiny", "other")


async def test_the_list_of_models_is_the_keys_own(
    app: FastAPI, settings: Settings, make: Make
) -> None:
    _, some = make(models=["gpt-4o"])
    _, all_of_them = make()
    await app.state.keyring.refresh()

    async def names(secret: str) -> list[str]:
        listed = (await call(app, "GET", "/v1/models", headers=bearer(secret))).json()
        return [entry["id"] for entry in listed["data"]]

    assert await names(some) == ["other", "tiny", "gpt-4o"]
    assert await names(all_of_them) == ["other", "tiny", "tuned", "gpt-4o"]
    answer = await call(app, "GET", "/v1/models/tuned", headers=bearer(some))
    assert "there are: `other`, `tiny`, `gpt-4o`" in answer.error["message"]
    answer = await post(app, "/v1/embeddings", some, {"model": "tiny", "input": "x"})
    assert "tuned" not in answer.error["message"]


def test_views_are_made_once_for_each_catalogue(settings: Settings) -> None:
    views, catalog = Views(), scan(settings)
    one = Caller("key_a", "a", frozenset({"inference"}))
    assert views.seen(catalog, one) is views.seen(catalog, Caller("key_b", "a", one.scopes))
    assert views.seen(catalog, ANYBODY) is catalog
    assert views.eyes(ANYBODY) is None
    assert views.seen(scan(settings), one) is not views.seen(catalog, one)


async def test_requests_are_counted_and_refused_ones_as_errors(
    app: FastAPI, settings: Settings, make: Make
) -> None:
    id, secret = make(rpm=2)
    await app.state.keyring.refresh()
    answers = [await post(app, "/v1/embeddings", secret, {"model": "tiny"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [400, 400, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert answers[2].headers["retry-after"] == "30"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    await app.state.keyring.flush()
    rows = {row["model"]: row for row in read(settings, UsageQuery(key=id))}
    assert (rows["tiny"]["requests"], rows["tiny"]["errors"]) == (2, 2)
    assert (rows[""]["requests"], rows[""]["errors"]) == (1, 1)


async def test_other_routes_take_nothing_of_the_minute(app: FastAPI, make: Make) -> None:
    _, secret = make("files", rpm=1)
    await app.state.keyring.refresh()
    for _ in range(3):
        answer = await call(app, "GET", "/v1/files", headers=bearer(secret))
        assert answer.status == 200
        assert "x-ratelimit-limit-requests" not in answer.headers


async def test_a_key_sends_no_grammar_unless_the_setting_lets_it(
    app: FastAPI, settings: Settings, make: Make
) -> None:
    _, secret = make()
    asked = {"model": "tiny", "prompt": "x", "grammar": 'root ::= "a" root "b" | "a" root | "x"'}
    await app.state.keyring.refresh()
    answer = await post(app, "/v1/completions", secret, asked)
    assert (answer.status, answer.error["code"]) == (403, "grammar_not_allowed")
    open_to_all = settings.model_copy(update={"client_grammars": "everybody"})
    answer = await post(create_app(open_to_all), "/v1/completions", secret, asked | {"grammar": 5})
    assert (answer.status, answer.error["param"]) == (400, "grammar")


# ---- /corral/v1/keys ------------------------------------------------------------------------------


@pytest.fixture
async def admin(app: FastAPI, make: Make) -> str:
    _, secret = make("admin")
    await app.state.keyring.refresh()
    return secret


async def test_an_administrator_makes_lists_and_ends_keys(app: FastAPI, admin: str) -> None:
    asked = {"name": "b", "scopes": ["inference", "files"], "tpm": 50}
    made = await post(app, "/corral/v1/keys", admin, asked)
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert key["key"].startswith("corral-")
    headers = bearer(key["key"])
    assert (await call(app, "GET", "/v1/files", headers=headers)).status == 200, "known at once"
    listed = (await call(app, "GET", "/corral/v1/keys", headers=bearer(admin))).json()
    assert listed["data"][0]["id"] == key["id"]
    assert key["key"] not in str(listed)
    one = await call(app, "GET", f"/corral/v1/keys/{key['id']}", headers=bearer(admin))
    assert one.json() == {name: value for name, value in key.items() if name != "key"}
    new = (
        await post(app, f"/corral/v1/keys/{key['id']}/rotate", admin, {"keep_seconds": 0})
    ).json()
    assert new["owner"] == key["owner"]
    assert (await call(app, "GET", "/v1/files", headers=headers)).status == 401
    gone = await call(app, "POST", f"/corral/v1/keys/{new['id']}/revoke", headers=bearer(admin))
    assert gone.json()["status"] == "revoked"
    assert (await call(app, "GET", "/v1/files", headers=bearer(new["key"]))).status == 401
    for id in (key["id"], new["id"]):
        assert (await call(app, "DELETE", f"/corral/v1/keys/{id}", headers=bearer(admin))).json()["deleted"]  # fmt: skip
        assert (
            await call(app, "GET", f"/corral/v1/keys/{id}", headers=bearer(admin))
        ).status == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "name"), ({"name": "a", "scopes": ["root"]}, "scopes.0"), ({"name": "a", "x": 1}, "x")],
)
async def test_what_makes_no_key_is_refused(
    app: FastAPI, admin: str, body: dict[str, Any], param: str
) -> None:
    answer = await post(app, "/corral/v1/keys", admin, body)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_usage_is_as_fresh_as_the_question(app: FastAPI, admin: str, make: Make) -> None:
    id, secret = make()
    await app.state.keyring.refresh()
    await post(app, "/v1/chat/completions", secret, {"model": "no such"})
    answer = await call(app, "GET", "/corral/v1/usage", headers=bearer(admin), query=f"key={id}")
    (row,) = answer.json()["data"]
    assert row | {"day": ""} == {
        "object": "corral.usage", "day": "", "key": id, "name": "a", "owner": id, "model": "",
        "requests": 1, "errors": 1, "prompt_tokens": 0, "cached_tokens": 0, "generated_tokens": 0,
    }  # fmt: skip
    answer = await call(app, "GET", "/corral/v1/usage", headers=bearer(admin), query="since=soon")
    assert (answer.status, answer.error["param"]) == (400, "since")
