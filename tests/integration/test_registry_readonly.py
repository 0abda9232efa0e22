"""A store that may be read but not written: reading goes on, changing is refused in words."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import constants  # noqa: F401  while it may still be read

from corral import database
from corral.errors import StoreError
from corral.registry.scan import scan
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.artifacts import base_model

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One outside pytest's own, which other users may not enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    for path in [made, *made.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(made)


@pytest.fixture
def settings(folder: Path) -> Settings:
    return Settings.model_validate(
        {"data_dir": folder / "data", "bundled_models_dir": folder / "none", "aliases": {}}
    )


@pytest.fixture
def unprivileged(settings: Settings) -> Iterator[None]:
    """From `freeze` on without root's right to write anywhere."""
    yield
    if os.getuid() == 0:
        os.seteuid(0)


def freeze(settings: Settings) -> None:
    """Take every right to write from the store, and root's rights from this process."""
    for path in [settings.data_dir, *settings.data_dir.rglob("*")]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    if os.getuid() == 0:
        os.seteuid(NOBODY)


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_store_is_read_and_not_changed(folder: Path, settings: Settings) -> None:
    inbox = folder / "in"
    Registry(settings).add(base_model(inbox), inbox)
    database.engine(settings).dispose()
    database._engines.clear()  # as a process that starts now
    database._upgraded.clear()
    more = base_model(inbox, "more", "two")
    freeze(settings)
    registry = Registry(settings)
    assert [artifact.name for artifact in registry.list()] == ["tiny"]
    assert list(scan(settings).models) == ["tiny"]
    assert registry.verify() == []
    with pytest.raises(StoreError) as refused:
        registry.add(more, inbox)
    blobs = settings.data_dir / "blobs"
    assert refused.value.message == (
        f"the store in {settings.data_dir} cannot be written: {blobs / 'lock'}: Permission denied; "
        "make it writable, or set CORRAL_DATA to a directory that is"
    )
    with pytest.raises(StoreError) as refused:
        registry.remove("tiny")
    assert refused.value.message == (
        f"the database {settings.data_dir / 'corral.db'} cannot be used: attempt to write a "
        "readonly database; see that the data directory exists, is writable, and on a local disk"
    )
    with pytest.raises(StoreError, match=r"blobs/lock: Permission denied"):
        registry.gc()


@pytest.mark.usefixtures("unprivileged")
def test_a_data_directory_that_cannot_be_made_is_told(folder: Path, settings: Settings) -> None:
    inbox = folder / "in"
    manifest = base_model(inbox)
    settings.data_dir.mkdir()
    freeze(settings)
    with pytest.raises(StoreError) as refused:
        Registry(settings).add(manifest, inbox)
    assert refused.value.message == (
        f"the database {settings.data_dir / 'corral.db'} cannot be used: Permission denied; see "
        "that the data directory exists, is writable, and on a local disk"
    )
