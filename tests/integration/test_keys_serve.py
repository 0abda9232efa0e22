"""Keys of a running `corral serve`: made, revoked and rotated without a restart; usage kept; a database
that is locked or away."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.served import Served, chat, serve, wait_for

WITHIN = 1.0


def corral(data_dir: Path, *words: str, **variables: str) -> Any:
    """`corral WORDS --json`, without --url on the data directory; its answer."""
    environment = {**os.environ, "CORRAL_DATA": str(data_dir), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "corral", *words, "--json"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def make(data_dir: Path, *more: str) -> dict[str, Any]:
    made: dict[str, Any] = corral(data_dir, "keys", "create", "--name", "a", *more)
    return made


async def _status(url: str, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url + "/v1/chat/completions", json=chat()) as answer,
    ):
        await answer.read()
        return answer.status


def status(url: str, secret: str = "") -> int:
    return asyncio.run(_status(url, secret))


def seconds_until(url: str, secret: str, wanted: int) -> float:
    began = time.monotonic()
    wait_for(lambda: status(url, secret) == wanted, f"answered with {wanted}")
    return time.monotonic() - began


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path) as served:
        yield served


def requests(served: Served, key: str = "") -> int:
    found = corral(served.data_dir, "usage")
    return sum(row["requests"] for row in found if key in ("", row["key"]))


def test_keys_come_and_go_without_a_restart(served: Served) -> None:
    url = served.url
    assert status(url) == 200, "open while there is no key"
    key = make(served.data_dir)
    assert seconds_until(url, "", 401) < WITHIN
    assert status(url, key["key"]) == 200
    new = corral(served.data_dir, "keys", "rotate", key["id"], "--keep", "0s")
    assert seconds_until(url, key["key"], 401) < WITHIN
    assert status(url, new["key"]) == 200
    corral(served.data_dir, "keys", "revoke", new["id"])
    assert seconds_until(url, new["key"], 401) < WITHIN
    assert status(url) == 401, "still closed, though no key opens any more"
    for each in (key, new):
        corral(served.data_dir, "keys", "revoke", each["id"], "--forget")
    assert seconds_until(url, "", 200) < WITHIN


def test_two_corrals_over_one_data_directory_share_keys_and_usage(tmp_path: Path) -> None:
    """What several processes are for (docs/adr/0010-one-gateway-process.md)."""
    with serve(tmp_path) as one, serve(tmp_path) as other:
        assert [status(each.url) for each in (one, other)] == [200, 200]
        key = make(one.data_dir)
        for each in (one, other):
            assert seconds_until(each.url, "", 401) < WITHIN
            assert status(each.url, key["key"]) == 200
        wait_for(lambda: requests(one, key["id"]) == 2, "the usage of both is kept")


def test_an_administrator_does_it_over_http_and_sees_it_at_once(served: Served) -> None:
    url, admin = served.url, make(served.data_dir, "--scopes", "admin")
    seconds_until(url, "", 401)
    there = {"CORRAL_API_KEYS": admin["key"]}
    key = corral(served.data_dir, "keys", "create", "--name", "b", "--url", url, **there)
    assert status(url, key["key"]) == 200
    gone = corral(served.data_dir, "keys", "revoke", key["id"], "--url", url, **there)
    assert (gone["status"], status(url, key["key"])) == ("revoked", 401)
    rows = corral(served.data_dir, "usage", "--url", url, "--key", key["id"], **there)
    assert [(row["model"], row["requests"], row["errors"]) for row in rows] == [("tiny", 1, 0)]


def test_nothing_of_the_usage_is_lost_at_sigterm(served: Served) -> None:
    key = make(served.data_dir)
    seconds_until(served.url, "", 401)
    before = 50
    for _ in range(before):
        assert status(served.url, key["key"]) == 200
    served.signal(signal.SIGTERM)
    assert served.ended() == 0
    (row,) = [r for r in corral(served.data_dir, "usage") if r["key"] == key["id"]]
    assert (row["requests"], row["errors"]) == (before, 0)


def test_killed_it_loses_the_last_seconds_at_most(served: Served) -> None:
    key = make(served.data_dir)
    seconds_until(served.url, "", 401)
    stored = requests(served)
    assert status(served.url, key["key"]) == 200
    wait_for(lambda: requests(served) > stored, "stored, though it runs on")
    served.signal(signal.SIGKILL)
    served.ended()
    assert requests(served) > stored


def test_a_locked_database_stops_nobody(served: Served) -> None:
    key = make(served.data_dir)
    seconds_until(served.url, "", 401)
    with contextlib.closing(sqlite3.connect(served.data_dir / "corral.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        end, asked, before = time.monotonic() + 4, 0, requests(served)
        while time.monotonic() < end:
            began = time.monotonic()
            assert status(served.url, key["key"]) == 200
            assert time.monotonic() - began < 2
            asked += 1
        other.rollback()
    wait_for(lambda: requests(served) >= before + asked, "what came meanwhile is stored")


def test_a_database_that_is_gone_opens_no_door(served: Served) -> None:
    key = make(served.data_dir)
    seconds_until(served.url, "", 401)
    for path in served.data_dir.glob("corral.db*"):
        path.rename(path.with_name("away-" + path.name))
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert status(served.url, key["key"]) == 200
        assert status(served.url, "") == 401
    wait_for(lambda: "the database of the keys is gone" in served.stderr, "it is told")


def test_limits_are_told_and_kept(served: Served) -> None:
    key = make(served.data_dir, "--rpm", "3")
    seconds_until(served.url, "", 401)

    async def ask() -> tuple[int, dict[str, str]]:
        headers = {"Authorization": f"Bearer {key['key']}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(served.url + "/v1/chat/completions", json=chat()) as answer,
        ):
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}

    first = asyncio.run(ask())
    assert first[1]["x-ratelimit-limit-requests"] == "3"
    assert first[1]["x-ratelimit-remaining-requests"] == "2"
    got = [asyncio.run(ask()) for _ in range(4)]
    assert got[-1][0] == 429
    assert 1 <= int(got[-1][1]["retry-after"]) <= 20


def test_a_made_key_lets_it_listen_to_other_machines(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_HOST="0.0.0.0") as served:
        assert served.ended() == 2
        assert "no API key is set" in served.stderr
    make(tmp_path / "data")
    with serve(tmp_path, CORRAL_HOST="0.0.0.0") as served:
        port = served.url.rpartition(":")[2]
        assert status(f"http://127.0.0.1:{port}") == 401


async def test_a_key_of_high_priority_goes_first_and_flex_last(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    with serve(tmp_path, CORRAL_SLOTS="1") as served:
        high = make(served.data_dir, "--priority", "high")["key"]
        normal = make(served.data_dir)["key"]
        await asyncio.to_thread(seconds_until, served.url, normal, 200)
        order: list[str] = []

        async def one(name: str, secret: str, **body: Any) -> Any:
            headers = {"Authorization": f"Bearer {secret}"}
            url = served.url + "/v1/chat/completions"
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(url, json=body) as answer,
            ):
                text = await answer.text()
                order.append(name)
                return text if body["stream"] else json.loads(text)

        async def waiting(count: int) -> None:
            async with aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {admin}"}
            ) as session:
                while True:
                    async with session.get(served.url + "/metrics") as answer:
                        if f'corral_waiting{{model="tiny"}} {count}.0' in await answer.text():
                            return

        admin = make(served.data_dir, "--scopes", "admin")["key"]
        await asyncio.to_thread(seconds_until, served.url, admin, 200)
        until_stop = chat(stream=True, until=str(stop), delay=0.01)
        running = asyncio.create_task(one("first", high, **until_stop, service_tier="auto"))
        await asyncio.to_thread(wait_for, lambda: "stream begins" in served.llama_log, "it runs")
        tasks = []
        for name, secret, body in (
            ("flex", high, {"service_tier": "flex"}),
            ("normal", normal, {"service_tier": "priority"}),
            ("high", high, {}),
        ):
            tasks.append(asyncio.create_task(one(name, secret, **chat(), **body)))
            await waiting(len(tasks))
        stop.touch()
        flex, plain, unsaid = await asyncio.gather(*tasks)
        assert order == ["first", "high", "normal", "flex"]
        assert flex["service_tier"] == "flex"
        assert plain["service_tier"] == "default", "the key's own"
        assert "service_tier" not in unsaid
        assert '"model":"tiny","service_tier":"priority"' in await running
