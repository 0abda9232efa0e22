"""A data directory with a base and files, and its fine-tuning jobs; nothing is trained."""

from pathlib import Path

import pytest

from corral import database
from corral.files.store import Files
from corral.finetune.service import FineTuning
from corral.jobs.queue import Queue
from corral.settings import Settings

DEFAULTS = Settings()
ROW = '{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue(database.ready(settings))


@pytest.fixture
def jobs(settings: Settings) -> FineTuning:
    return FineTuning.of(settings)


@pytest.fixture
def file_id(settings: Settings, tmp_path: Path) -> str:
    """A training file of twelve rows."""
    return add(settings, tmp_path, ROW * 12)


def add(settings: Settings, folder: Path, text: str, purpose: str = "fine-tune") -> str:
    path = folder / "rows.jsonl"
    path.write_text(text)
    return Files(settings).add_local(path, filename="rows.jsonl", purpose=purpose).id
