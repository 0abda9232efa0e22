"""A store of its own for every test, and the OpenAI SDK on an application in the same process."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from corral.app import create_app
from corral.files.store import Files
from corral.registry.catalog import Collector
from corral.settings import Settings

BASE = "http://127.0.0.1/v1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "none", files_max_bytes=200_000
    )


@pytest.fixture
def files(settings: Settings) -> Files:
    return Files(settings)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings, Collector().catalog({}))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
        yield http


@pytest.fixture
def plain_client(http: httpx2.AsyncClient) -> AsyncOpenAI:
    """The SDK as it is."""
    return AsyncOpenAI(base_url=BASE, api_key="any", max_retries=0, http_client=http)


@pytest.fixture
def client(http: httpx2.AsyncClient) -> AsyncOpenAI:
    """The SDK, strict: an answer that breaks its types raises."""
    return AsyncOpenAI(
        base_url=BASE,
        api_key="any",
        max_retries=0,
        http_client=http,
        _strict_response_validation=True,
    )


def left(settings: Settings) -> list[str]:
    """Every file in the folder of files but its lock, by its path in there."""
    root = settings.data_dir / "files"
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(root)) for path in found if path.name != "lock")
