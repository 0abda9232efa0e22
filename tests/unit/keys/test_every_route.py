"""Every route of the application, asked with no key, a wrong one, one of another scope, and another
tenant's. The routes come from the application itself: one without a rule does not start."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from corral import database
from corral.app import create_app
from corral.caller import PERMISSIONS
from corral.files.store import Files
from corral.files.uploads import Uploads
from corral.finetune.service import FineTuning
from corral.gateway.rules import Rules, every_route
from corral.jobs.queue import Queue
from corral.keys.keyring import Keyring
from corral.keys.schemas import KeyRequest
from corral.keys.store import Keys
from corral.keys.usage import Ledger
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.asgi import Answer, call
from tests.fakes.gguf_file import write_adapter, write_model
from tests.unit.keys.conftest import bearer

ROW = '{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}\n'
TUNED = "ft:tiny:local::0123abcd"
PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
OPEN = {("GET", "/health")}
# Bodies that get as far as the resource.
BODIES = {"complete": {"part_ids": ["part_a"]}, "rotate": {"keep_seconds": 5}}


@dataclass
class House:
    """An application with the things of one tenant, and keys."""

    app: FastAPI
    secrets: dict[str, str] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)

    def ask(self, secret: str, method: str, path: str, body: Any = None) -> Answer:
        headers = bearer(secret) if secret else {}
        raw = b"" if body is None else json.dumps(body).encode()
        if raw:
            headers["content-type"] = "application/json"
        return asyncio.run(call(self.app, method, path, raw, headers))

    def routes(self) -> list[tuple[str, str]]:
        return sorted(every_route(self.app.routes))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("house")
    settings = Settings(data_dir=root / "data", bundled_models_dir=root / "none")
    write_model(settings.data_dir / "models/tiny.gguf")
    keys, secrets = Keys(settings), dict[str, str]()
    for name, owner, scopes in (
        ("a", "tenant-a", ("inference", "files", "training")),
        ("b", "tenant-b", ("inference", "files", "training")),
        ("admin", "", ("admin",)),
        *((f"only {scope}", "", (scope,)) for scope in PERMISSIONS),
        *(
            (f"all but {scope}", "", tuple(s for s in PERMISSIONS if s not in (scope, "admin")))
            for scope in PERMISSIONS
        ),
    ):
        asked = KeyRequest.model_validate({"name": name, "owner": owner, "scopes": scopes})
        secrets[name] = keys.create(asked)[1]
    things = things_of_a(settings, root, secrets["a"])
    things["key_id"] = keys.list()[-1].row["id"]
    return House(create_app(settings), secrets, things)


def things_of_a(settings: Settings, folder: Path, secret: str) -> dict[str, str]:
    """One of each kind, of tenant A's; by the parameter of the routes that take its id."""
    account = Keyring(settings, Ledger(settings)).find(secret.encode())
    assert account is not None
    owner = account.caller.owner
    path = folder / "rows.jsonl"
    path.write_text(ROW * 12)
    files = Files(settings)
    file_id = files.add_local(path, filename="a", purpose="fine-tune", owner=owner).id
    job = FineTuning.of(settings, account.caller).create(
        {"model": "tiny", "training_file": file_id}
    )
    upload = Uploads(settings, files).create(
        filename="a", mime_type="text/plain", purpose="batch", bytes=4, owner=owner
    )
    write_adapter(folder / "tuned.gguf", "tiny")
    Registry(settings).add(
        Manifest(
            name=TUNED, kind="adapter", files=(ManifestFile(name="tuned.gguf", role="adapter"),),
            base=BaseOf(name="tiny"), owner=owner,
        ),
        folder,
    )  # fmt: skip
    queue = Queue(database.ready(settings))
    return {
        "file_id": file_id,
        "upload_id": upload.row["id"],
        "name": TUNED,
        "ftjob": job["id"],
        "job_id": queue.submit("pull", {}, owner=owner)["id"],
    }


def filled(path: str, things: dict[str, str]) -> str:
    """The path with the id of tenant A's thing of that kind."""

    def thing(match: re.Match[str]) -> str:
        fine_tuning = match[1] == "job_id" and "/fine_tuning/" in path
        return things["ftjob" if fine_tuning else match[1]]

    return PARAMETER.sub(thing, path)


def absent(id: str) -> str:
    """An id of the same shape that nobody has."""
    return id[:-6] + "ffffff"


def with_ids(house: House) -> Iterator[tuple[str, str]]:
    return ((m, p) for m, p in house.routes() if PARAMETER.search(p))


def body_of(method: str, path: str) -> Any:
    return BODIES.get(path.rpartition("/")[2], {}) if method == "POST" else None


def test_there_are_routes_and_the_rules_know_them(house: House) -> None:
    assert len(house.routes()) > 60
    assert {path for _, path in house.routes()} >= {"/v1/files", "/corral/v1/usage", "/metrics"}


def test_a_route_without_a_rule_does_not_start(house: House) -> None:
    router = APIRouter()
    router.add_api_route("/corral/v1/secrets", lambda: None, methods=["GET"])
    app = FastAPI()
    app.include_router(router)
    with pytest.raises(RuntimeError, match="GET /corral/v1/secrets has no rule"):
        Rules(()).check(app.routes)


@pytest.mark.parametrize(
    ("secret", "code"), [("", "missing_api_key"), ("corral-wrong", "invalid_api_key")]
)
def test_without_a_key_of_ours_nothing_is_answered(house: House, secret: str, code: str) -> None:
    for method, path in house.routes():
        answer = house.ask(secret, method, filled(path, house.things), body_of(method, path))
        if (method, path) in OPEN:
            assert answer.status == 200
            continue
        assert (answer.status, answer.error["code"]) == (401, code), (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert house.ask(secret, "GET", "/v1/assistants").status == 401


def test_every_route_asks_for_its_scope(house: House) -> None:
    rules = Rules(p for m, p in house.routes() if m == "POST" and "{" not in p and needs_model(p))
    for method, path in house.routes():
        need = rules.need(method, path)
        if need in ("nothing", "key"):
            continue
        asked = (method, filled(path, house.things), body_of(method, path))
        refused = house.ask(house.secrets[f"all but {need}"], *asked)
        assert (refused.status, refused.error["code"]) == (403, "missing_scope"), (method, path)
        assert f"`{need}`" in refused.error["message"]
        assert refused.error["type"] == "permission_error"
        let_in = house.ask(
            house.secrets[f"only {need}"],
            method,
            absent(asked[1]) if "{" in path else path,
            asked[2],
        )
        assert let_in.status not in (401, 403), (method, path, let_in.body)


def needs_model(path: str) -> bool:
    """Whether it is one of llama-server's: none of the other routes' first words."""
    others = ("files", "uploads", "fine_tuning", "corral", "models")
    return path.removeprefix("/v1").split("/")[1] not in others


def test_a_key_of_any_scope_sees_the_models_and_the_documents(house: House) -> None:
    for name in (f"only {scope}" for scope in PERMISSIONS):
        for path in ("/v1/models", "/models", "/docs", "/openapi.json", "/v1/models/tiny"):
            assert house.ask(house.secrets[name], "GET", path).status == 200, (name, path)
        assert house.ask(house.secrets[name], "GET", "/v1/assistants").status == 404


def test_a_slash_at_the_end_opens_no_door(house: House) -> None:
    """At most it leads to the path without it, which has its rule."""
    secret = house.secrets["only inference"]
    for method, path in house.routes():
        asked, body = filled(path, house.things), body_of(method, path)
        if house.ask(secret, method, asked, body).status == 403:
            answer = house.ask(secret, method, asked + "/", body)
            assert answer.status in (307, 403), (method, path, answer.status)
            assert answer.headers.get("location", asked).endswith(asked)


def test_things_of_another_tenant_are_not_there(house: House) -> None:
    """The answer is word for word the one for an id that nobody has."""
    tried = 0
    for method, path in with_ids(house):
        if "/corral/v1/keys" in path:
            continue  # administrators only
        tried += 1
        theirs, nobodys = filled(path, house.things), filled(path, {k: absent(v) for k, v in house.things.items()})  # fmt: skip
        other = house.ask(house.secrets["b"], method, theirs, body_of(method, path))
        assert other.status == 404, (method, path, other.body)
        unknown = house.ask(house.secrets["b"], method, nobodys, body_of(method, path))
        id = next(v for v in house.things.values() if v in theirs)
        assert other.body.decode().replace(id, absent(id)) == unknown.body.decode(), (method, path)
    assert tried >= 20


def test_their_owner_and_administrators_see_them(house: House) -> None:
    for name in ("a", "admin"):
        for method, path in with_ids(house):
            if method != "GET" or "/corral/v1/keys" in path:
                continue
            answer = house.ask(house.secrets[name], method, filled(path, house.things))
            assert answer.status == 200, (name, path, answer.body)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs", "/corral/v1/jobs"])
def test_lists_hold_what_is_ones_own(house: House, path: str) -> None:
    lists = {
        name: house.ask(house.secrets[name], "GET", path).json() for name in ("a", "b", "admin")
    }
    assert len(lists["a"]["data"]) > 0
    assert lists["admin"]["data"] == lists["a"]["data"]
    assert lists["b"]["data"] == []


@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs", "/corral/v1/jobs"])
def test_another_tenants_id_is_no_place_in_a_list(house: House, path: str) -> None:
    thing = {"/v1/files": "file_id", "/v1/fine_tuning/jobs": "ftjob"}.get(path, "job_id")
    headers = bearer(house.secrets["b"])
    query = f"after={house.things[thing]}"
    answer = asyncio.run(call(house.app, "GET", path, headers=headers, query=query))
    assert (answer.status, answer.error["param"]) == (404, "after")


def test_models_of_another_tenant_cannot_be_asked_trained_or_seen(house: House) -> None:
    def names(who: str) -> list[str]:
        listed = house.ask(house.secrets[who], "GET", "/v1/models").json()["data"]
        return [entry["id"] for entry in listed]

    assert names("a") == names("admin") == [TUNED, "tiny"]
    assert names("b") == ["tiny"]
    asked = {"model": TUNED, "messages": [{"role": "user", "content": "x"}]}
    for path in ("/v1/chat/completions", "/v1/embeddings", "/tokenize"):
        answer = house.ask(house.secrets["b"], "POST", path, asked)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert (
            answer.error["message"] == f"the model `{TUNED}` does not exist here; there are: `tiny`"
        )
    job = {"model": TUNED, "training_file": house.things["file_id"]}
    answer = house.ask(house.secrets["b"], "POST", "/v1/fine_tuning/jobs", job)
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert "there are: `tiny`" in answer.error["message"]
    mine = house.ask(house.secrets["a"], "POST", "/v1/fine_tuning/jobs", job)
    # Its owner gets as far as the file, which is none here.
    assert (mine.status, mine.error["code"]) == (400, "invalid_model")
    assert "is no plain LoRA" in mine.error["message"]


def test_a_file_of_another_tenant_is_nothing_to_train_on(house: House) -> None:
    for field_name in ("training_file", "validation_file"):
        job = {"model": "tiny", "training_file": "file-x", field_name: house.things["file_id"]}
        answer = house.ask(house.secrets["b"], "POST", "/v1/fine_tuning/jobs", job)
        assert (answer.status, answer.error["code"]) == (400, "invalid_file")
        assert "there is no file" in answer.error["message"]


def test_what_cannot_be_served_is_told_to_administrators_only(house: House) -> None:
    bad = house.app.state.gateway.settings.data_dir / "models/bad.gguf"
    bad.write_bytes(b"no model")
    app = create_app(house.app.state.gateway.settings)
    bad.unlink()
    for who, told in (("admin", "cannot be served"), ("b", "does not exist here")):
        answer = asyncio.run(call(app, "GET", "/v1/models/bad", headers=bearer(house.secrets[who])))
        assert told in answer.error["message"], who
