"""A queue of its own for every test."""

from pathlib import Path

import pytest

from corral import database
from corral.jobs.queue import Queue
from corral.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "none")


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue(database.ready(settings))
