"""The application over ASGI, llama-server not started: routes, errors, limits, auth, ids."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from corral.app import create_app
from corral.gateway.compat import TYPES
from corral.gateway.passed import PASSED
from corral.settings import Settings
from tests.fakes.asgi import Answer, call
from tests.fakes.gguf_file import write_adapter, write_model

INFERENCE = [path for passed in PASSED for path in passed.paths]


def build(tmp_path: Path, **more: Any) -> FastAPI:
    write_model(tmp_path / "models/tiny.gguf")
    write_adapter(tmp_path / "models/tuned.gguf", "tiny")
    given = {
        "data_dir": tmp_path,
        "bundled_models_dir": tmp_path / "none",
        "aliases": {"gpt-4o": "tuned"},
        **more,
    }
    return create_app(Settings.model_validate(given))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """For tests that leave no trace in it."""
    return build(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The same with API keys."""
    return build(tmp_path_factory.mktemp("closed"), api_keys=["first-key", "second-key"])


async def post(app: FastAPI, path: str, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await call(app, "POST", path, raw, headers)


@pytest.mark.parametrize("path", INFERENCE)
@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{oops", 400, None, "invalid_json"),
        (b"[1]", 400, None, "invalid_json"),
        ({"model": 5}, 400, "model", "invalid_request"),
        ({"model": "nope"}, 404, "model", "model_not_found"),
    ],
)
async def test_every_route_answers_bad_input_with_the_envelope(
    app: FastAPI, path: str, body: Any, status: int, param: str | None, code: str
) -> None:
    answer = await post(app, path, body)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (status, param, code)
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"]


async def test_a_field_of_a_wrong_type_is_named(app: FastAPI) -> None:
    answer = await post(app, "/v1/chat/completions", {"model": "tiny", "stream": "yes"})
    assert (answer.status, answer.error["param"]) == (400, "stream")


async def test_half_a_character_in_a_name_is_a_404_not_a_bug(app: FastAPI) -> None:
    answer = await post(app, "/v1/chat/completions", {"model": "\ud800"})
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_what_a_405_allows_is_every_method_of_the_path(app: FastAPI) -> None:
    answer = await call(app, "PUT", "/v1/models/tiny")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET")


async def test_an_unknown_model_names_those_there_are(app: FastAPI) -> None:
    answer = await post(app, "/v1/chat/completions", {"model": "nope", "messages": []})
    assert (
        "`nope` does not exist here; there are: `tiny`, `tuned`, `gpt-4o`"
        in answer.error["message"]
    )


@pytest.mark.parametrize(
    ("path", "model", "said"),
    [
        (
            "/v1/embeddings",
            "tiny",
            "`tiny` makes no embeddings; models that serve this route: `vec`",
        ),
        (
            "/v1/chat/completions",
            "vec",
            "`vec` only makes embeddings; models that serve this route",
        ),
    ],
)
async def test_a_model_of_the_wrong_kind_is_refused(
    tmp_path: Path, path: str, model: str, said: str
) -> None:
    write_model(tmp_path / "models/vec.gguf", {"llama.pooling_type": 1})
    answer = await post(build(tmp_path), path, {"model": model})
    assert (answer.status, answer.error["param"]) == (400, "model")
    assert said in answer.error["message"]


async def test_what_is_no_route(app: FastAPI) -> None:
    assert (await call(app, "GET", "/v1/nothing")).error["code"] == "not_found"
    answer = await call(app, "GET", "/v1/chat/completions")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_body_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    app = build(tmp_path, max_body_bytes=4096)
    answer = await call(app, "POST", "/v1/embeddings", b"x" * 5000)
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
    assert answer.headers["connection"] == "close"
    assert (await call(app, "POST", "/v1/embeddings", b"x" * 4096)).status == 400


async def test_a_chunked_body_over_the_limit_is_refused_when_it_gets_there(tmp_path: Path) -> None:
    app = build(tmp_path, max_body_bytes=4096)
    answer = await call(app, "POST", "/v1/embeddings", [b"x" * 1000] * 10)
    assert answer.status == 413


async def test_a_wrong_length_header_is_refused(app: FastAPI) -> None:
    answer = await call(app, "POST", "/v1/embeddings", b"{}", {"content-length": "-5"})
    assert "Content-Length" in answer.error["message"]


async def test_models_are_listed_and_retrieved(app: FastAPI) -> None:
    listed = (await call(app, "GET", "/v1/models")).json()
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == ["tiny", "tuned", "gpt-4o"]
    for entry in listed["data"]:
        assert entry["object"] == "model"
        assert entry["owned_by"] == "corral"
        assert isinstance(entry["created"], int)
    assert listed["data"][1]["corral"]["base"] == "tiny"
    assert listed["data"][2]["corral"]["alias_of"] == "tuned"


@pytest.mark.parametrize("name", ["tiny", "gpt-4o", "openai/tiny", "openai%2Ftiny"])
async def test_a_model_is_retrieved_under_every_spelling(app: FastAPI, name: str) -> None:
    answer = await call(app, "GET", f"/v1/models/{name}")
    assert answer.status == 200
    assert answer.json()["id"] == name


async def test_an_unknown_model_is_not_retrieved(app: FastAPI) -> None:
    answer = await call(app, "GET", "/v1/models/ft:tiny:local:x:1")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_alive_but_not_ready(app: FastAPI) -> None:
    assert (await call(app, "GET", "/health")).json() == {"status": "ok"}
    answer = await call(app, "GET", "/ready")
    assert (answer.status, answer.error["code"]) == (503, "not_ready")
    assert "llama-server is stopped" in answer.error["message"]
    assert answer.headers["Retry-After".lower()]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1.2_3:x/y=", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
async def test_a_sane_request_id_is_kept(app: FastAPI, sent: str, kept: bool) -> None:
    answer = await call(app, "GET", "/health", headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("header", ["Bearer first-key", "bearer second-key", "Bearer  first-key"])
async def test_any_of_the_keys_opens(closed: FastAPI, header: str) -> None:
    answer = await call(closed, "GET", "/v1/models", headers={"authorization": header})
    assert answer.status == 200


async def test_anthropics_header_opens_too(closed: FastAPI) -> None:
    headers = {"x-api-key": "first-key"}
    assert (await call(closed, "GET", "/models", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer"}, "missing_api_key"),
        ({"authorization": "Basic first-key"}, "missing_api_key"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({"authorization": "Bearer first-ke"}, "invalid_api_key"),
        ({"authorization": "Bearer \xff"}, "invalid_api_key"),
        ({"x-api-key": "wrong"}, "invalid_api_key"),
    ],
)
async def test_every_route_but_health_needs_a_key(
    closed: FastAPI, headers: dict[str, str], code: str
) -> None:
    others = ["/v1/models", "/ready", "/metrics", "/docs", "/openapi.json", "/nothing"]
    for method, path in [*[("POST", p) for p in INFERENCE], *[("GET", p) for p in others]]:
        answer = await call(closed, method, path, headers=headers)
        assert (answer.status, answer.error["code"]) == (401, code), path
        assert answer.error["type"] == "authentication_error"
        assert answer.headers["x-request-id"]
    assert (await call(closed, "GET", "/health", headers=headers)).status == 200


async def test_without_keys_any_authorization_is_accepted(app: FastAPI) -> None:
    for value in ("Bearer anything", "Basic x", ""):
        answer = await call(app, "GET", "/v1/models", headers={"authorization": value})
        assert answer.status == 200


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return build(tmp_path_factory.mktemp("named"), allowed_hosts=["desk.example"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8000", 200),
        ("desk.example", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.evil.example", 403),
    ],
)
async def test_without_keys_only_names_of_this_host_are_answered(
    named: FastAPI, host: str, status: int
) -> None:
    assert (await call(named, "GET", "/v1/models", headers={"host": host})).status == status


async def test_with_keys_any_host_is_answered(closed: FastAPI) -> None:
    headers = {"host": "corral.example", "authorization": "Bearer first-key"}
    assert (await call(closed, "GET", "/models", headers=headers)).status == 200


async def test_metrics_count_routes_by_pattern_and_errors_by_code(tmp_path: Path) -> None:
    app = build(tmp_path)
    await post(app, "/v1/chat/completions", {"model": "nope"})
    await call(app, "GET", "/v1/models/tiny")
    await call(app, "GET", "/made/up/by/a/scanner")
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert 'corral_requests_total{model="",route="/v1/chat/completions",status="404"} 1.0' in text
    assert 'corral_errors_total{code="model_not_found",route="/v1/chat/completions"} 1.0' in text
    assert 'route="/v1/models/{name:path}"' in text
    assert 'route="unmatched"' in text
    assert "scanner" not in text
    assert "corral_in_flight 1.0" in text
    assert "corral_upstream_restarts_total 0.0" in text


async def test_one_log_line_per_request_without_what_was_said(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    settle = app.state.gateway.accounting.settle
    settle()  # other tests' requests
    caplog.set_level(logging.INFO)
    secret = {"model": "nope", "messages": [{"role": "user", "content": "my secret"}]}
    answer = await post(app, "/v1/chat/completions", secret, authorization="Bearer my-key")
    settle()
    lines = [record for record in caplog.records if record.name == "corral.access"]
    assert len(lines) == 1
    fields = lines[0].__dict__
    assert fields["request_id"] == answer.headers["x-request-id"]
    assert (fields["route"], fields["status"]) == ("/v1/chat/completions", 404)
    assert fields["error"] == "model_not_found"
    assert fields["bytes"] == len(answer.body)
    everything = " ".join(str(record.__dict__) for record in caplog.records)
    assert "my secret" not in everything
    assert "my-key" not in everything


@pytest.mark.parametrize(
    ("asked", "query", "status", "location"),
    [
        ("/health/", "", 307, "/health"),
        ("/v1/files/", "limit=3&order=asc", 307, "/v1/files?limit=3&order=asc"),
        ("/v1/files/a%20b/", "", 307, "/v1/files/a%20b"),
        ("/nothing/", "", 404, None),
        ("//example.org/", "", 404, None),
    ],
)
async def test_a_slash_at_the_end_leads_to_the_path_without_it(
    app: FastAPI, asked: str, query: str, status: int, location: str | None
) -> None:
    answer = await call(app, "GET", asked, query=query)
    assert (answer.status, answer.headers.get("location")) == (status, location)


async def test_an_escaped_slash_at_the_end_leads_nowhere(app: FastAPI) -> None:
    answer = await call(app, "GET", "/v1/files/", raw_path="/v1/files%2F")
    assert answer.status == 404


@pytest.fixture
def broken(tmp_path: Path) -> FastAPI:
    app = build(tmp_path)

    @app.get("/broken")
    async def broken_route() -> None:
        raise ZeroDivisionError("internals")

    return app


async def test_a_bug_is_an_answer_without_its_internals(
    broken: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await call(broken, "GET", "/broken")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "internals" not in answer.body.decode()
    assert any(record.exc_info for record in caplog.records)


async def test_the_openapi_document_has_every_route_once(app: FastAPI) -> None:
    document = (await call(app, "GET", "/openapi.json")).json()
    assert {passed.paths[0] for passed in PASSED} <= set(document["paths"])
    assert "/chat/completions" not in document["paths"]
    operations = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(operations) == len(set(operations))


async def test_the_openapi_document_tells_the_fields_that_are_read_here(app: FastAPI) -> None:
    document = (await call(app, "GET", "/openapi.json")).json()

    def told(path: str) -> set[str]:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        return set(body["schema"]["properties"])

    everywhere = {"model", "lora", *TYPES}
    form = {"grammar", "grammar_triggers", "json_schema"}
    assert told("/v1/chat/completions") == everywhere | form | {
        "service_tier", "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict",
        "id_slot", "n",
    }  # fmt: skip
    assert told("/v1/embeddings") == everywhere | {"service_tier"}
    assert told("/apply-template") == everywhere | form
    assert told("/tokenize") == everywhere


async def test_the_openapi_document_tells_every_routes_errors_and_key(app: FastAPI) -> None:
    document = (await call(app, "GET", "/openapi.json")).json()
    envelope = {"$ref": "#/components/schemas/ErrorEnvelope"}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            assert answers["500"]["content"]["application/json"]["schema"] == envelope
            assert "422" not in answers
            assert ("401" in answers) == ("security" in operation) == (path != "/health")
            assert all("schema" in kind for kind in answers["200"]["content"].values())
    assert "429" in document["paths"]["/v1/chat/completions"]["post"]["responses"]
