"""Keys of their own for every test, and an application over them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from corral.app import create_app
from corral.keys.schemas import KeyRequest
from corral.keys.store import Keys
from corral.settings import Settings
from tests.fakes.gguf_file import write_adapter, write_model

Make = Callable[..., tuple[str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_model(tmp_path / "data/models/tiny.gguf")
    write_model(tmp_path / "data/models/other.gguf")
    write_adapter(tmp_path / "data/models/tuned.gguf", "tiny")
    return Settings(
        data_dir=tmp_path / "data",
        bundled_models_dir=tmp_path / "none",
        aliases={"gpt-4o": "tiny", "gpt-4o+tools": "other"},
    )


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return Keys(settings)


@pytest.fixture
def make(keys: Keys) -> Make:
    """Makes a key; its id and the secret."""

    def made(*scopes: str, **more: Any) -> tuple[str, str]:
        asked = {"name": "a", "scopes": scopes or ("inference",), **more}
        key, secret = keys.create(KeyRequest.model_validate(asked))
        return key.row["id"], secret

    return made


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


def bearer(secret: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {secret}"}
