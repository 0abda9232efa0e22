"""`corral keys` and `corral usage` on a data directory."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corral.cli import app
from corral.errors import CorralError
from corral.keys.store import Keys, digest
from corral.settings import Settings


def run(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def create(*words: str) -> Any:
    return run("keys", "create", "--name", "a", *words)


def test_the_key_alone_goes_to_stdout_and_opens(clean_environment: Path) -> None:
    done = CliRunner().invoke(app, ["keys", "create", "--name", "a"])
    secret = done.stdout.strip()
    assert secret.startswith("corral-")
    (key,) = Keys(Settings(data_dir=clean_environment)).list()
    assert key.row["digest"] == digest(secret.encode()).hex()
    assert f"{key.row['id']}  a: keep this key" in done.stderr


def test_what_is_asked_for_is_made() -> None:
    made = create(
        "--scopes", "training, files", "--models", "x,gpt-4o", "--owner", "team", "--rpm", "1",
        "--tpm", "2", "--budget", "3", "--expires", "2d", "--priority", "low",
    )  # fmt: skip
    kept = ("scopes", "models", "owner", "rpm", "tpm", "budget", "priority")
    assert [made[name] for name in kept] == [
        ["files", "training"],
        ["gpt-4o", "x"],
        "team",
        1,
        2,
        3,
        "low",
    ]
    assert abs(made["expires_at"] - time.time() - 2 * 86400) < 60
    assert create("--expires", "2027-01-31")["expires_at"] == 1801353600
    assert [key["id"] for key in run("keys", "ls")][1] == made["id"]
    assert "key" not in run("keys", "ls")[0]
    table = CliRunner().invoke(app, ["keys", "ls"], env={"COLUMNS": "200"}).stdout
    assert "PRIORITY" in table.splitlines()[0]
    assert " low " in table.splitlines()[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scopes", "root"), "`scopes.0`"),
        (("--scopes", ""), "`scopes`"),
        (("--expires", "5y"), "write it like 90m, 12h or 30d"),
        (("--expires", "2027-02-31"), "'2027-02-31'"),
        (("--owner", "a/b"), "`owner`"),
        (("--priority", "urgent"), "`priority`"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CorralError, match=said):
        create(*words)
    assert run("keys", "ls") == []


def test_a_key_is_rotated_revoked_and_forgotten() -> None:
    old = create("--owner", "team")
    new = run("keys", "rotate", old["id"], "--keep", "0s")
    assert (new["owner"], new["key"] != old["key"]) == ("team", True)
    assert {key["id"]: key["status"] for key in run("keys", "ls")} == {
        new["id"]: "active",
        old["id"]: "expired",
    }
    assert run("keys", "revoke", new["id"])["status"] == "revoked"
    run("keys", "revoke", new["id"], "--forget")
    assert [key["id"] for key in run("keys", "ls")] == [old["id"]]
    with pytest.raises(CorralError, match="there is no key `key_x`"):
        run("keys", "revoke", "key_x")


def test_usage_of_nothing_is_empty_and_makes_no_database(clean_environment: Path) -> None:
    assert run("usage") == run("keys", "ls") == []
    assert not clean_environment.exists()
    with pytest.raises(CorralError, match="`since`"):
        run("usage", "--since", "yesterday")
