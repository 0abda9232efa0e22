"""Web pages: closed by default, open to the origins that are named, and to no other."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from corral.app import create_app
from corral.errors import SettingsError
from corral.settings import Settings, load
from tests.fakes.asgi import call

PAGE = "https://app.example"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def build(folder: Path, **more: Any) -> FastAPI:
    return create_app(
        Settings.model_validate(
            {"data_dir": folder, "bundled_models_dir": folder / "none", "aliases": {}, **more}
        )
    )


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return build(tmp_path_factory.mktemp("closed"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("opened")
    return build(folder, cors_origins=[PAGE, "app://obsidian.md"], api_keys=["key"])


@pytest.mark.parametrize("origin", [PAGE, "null", "file://", "http://127.0.0.1:1", "nonsense"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
async def test_no_page_may_ask_by_default(closed: FastAPI, origin: str, method: str) -> None:
    """Also what needs no preflight: a form's POST acts before the browser hides its answer."""
    headers = {"origin": origin, "content-type": "text/plain", **PREFLIGHT}
    answer = await call(closed, method, "/v1/models", headers=headers)
    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-request-id"]


async def test_its_own_pages_and_programs_may(closed: FastAPI) -> None:
    own = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}
    for headers in (own, {}, {"origin": ""}):
        answer = await call(closed, "GET", "/v1/models", headers=headers)
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", [PAGE, "app://obsidian.md"])
async def test_a_listed_page_gets_its_preflight_and_its_answers(
    opened: FastAPI, origin: str
) -> None:
    preflight = await call(
        opened, "OPTIONS", "/v1/chat/completions", headers={"origin": origin, **PREFLIGHT}
    )
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in preflight.headers

    headers = {"origin": origin, "authorization": "Bearer key"}
    answer = await call(opened, "GET", "/v1/models", headers=headers)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
    # Errors too, or the page could not tell its user what is wrong.
    refused = await call(opened, "GET", "/v1/models", headers={"origin": origin})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, origin)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://app.example", f"{PAGE}.evil.example", f"{PAGE}:444"]
)
async def test_another_page_stays_out(opened: FastAPI, origin: str) -> None:
    headers = {"origin": origin, "authorization": "Bearer key", **PREFLIGHT}
    for method in ("OPTIONS", "GET"):
        answer = await call(opened, method, "/v1/models", headers=headers)
        assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["*", "https://*.example", "app.example", "https://a.example/"])
def test_what_is_no_single_origin_does_not_start(origin: str) -> None:
    with pytest.raises(SettingsError, match="cors_origins"):
        load({"cors_origins": [origin]})
