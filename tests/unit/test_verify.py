"""Checksums: what is damaged or missing is found, named, and said how to mend."""

import hashlib
from pathlib import Path

import pytest

from corral.errors import ModelNotFound
from corral.registry.artifact import Artifact
from corral.registry.store import Registry
from corral.registry.verify import verify_bundled
from corral.settings import Settings
from tests.fakes.artifacts import base_model
from tests.fakes.gguf_file import write_model

GET_AGAIN = "get it again: corral models rm tiny --force, then pull or add it"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "bundled")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)


@pytest.fixture
def tiny(registry: Registry, tmp_path: Path) -> Artifact:
    added = registry.add(base_model(tmp_path / "in"), tmp_path / "in")
    registry.add(base_model(tmp_path / "in", "sound", "two"), tmp_path / "in")
    return added


def flip(path: Path) -> None:
    """Change the last byte, as a bad disk would."""
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_flipped_bit_is_found(registry: Registry, tiny: Artifact) -> None:
    blob = registry.blobs.path(tiny.main[0].sha256)
    flip(blob)
    (finding,) = registry.verify()
    assert (finding.name, finding.path) == ("tiny", blob)
    assert finding.message.startswith(f"{blob} has the sha256 ")
    assert finding.message.endswith(f", not {tiny.main[0].sha256}: it is damaged; {GET_AGAIN}")
    assert registry.verify("sound") == []
    assert len(registry.verify("tiny")) == 1
    with pytest.raises(ModelNotFound):
        registry.verify("none")


def test_what_the_message_says_mends_it(registry: Registry, tiny: Artifact, tmp_path: Path) -> None:
    flip(registry.blobs.path(tiny.main[0].sha256))
    registry.remove("tiny", force=True)
    registry.gc()
    registry.add(base_model(tmp_path / "in"), tmp_path / "in")
    assert registry.verify() == []


def test_a_missing_blob_is_found(registry: Registry, tiny: Artifact) -> None:
    blob = registry.blobs.path(tiny.main[0].sha256)
    blob.unlink()
    assert [f.message for f in registry.verify()] == [f"{blob} is missing; {GET_AGAIN}"]


def test_a_file_missing_from_the_shelf_is_found_and_set_out_again(
    registry: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    tiny.weights.unlink()
    assert [f.message for f in registry.verify()] == [f"{tiny.weights} is missing; {GET_AGAIN}"]
    assert registry.add(base_model(tmp_path / "in"), tmp_path / "in") == tiny
    assert registry.verify() == []


def test_a_copy_on_the_shelf_is_checked_too(registry: Registry, tiny: Artifact) -> None:
    """Where the file system has no hard links, blob and shelf are two files."""
    content = tiny.weights.read_bytes()
    tiny.weights.unlink()
    tiny.weights.write_bytes(content)
    assert registry.verify() == []
    flip(tiny.weights)
    assert [f.path for f in registry.verify()] == [tiny.weights]


def test_a_shared_blob_is_read_once(registry: Registry, tiny: Artifact, tmp_path: Path) -> None:
    registry.add(base_model(tmp_path / "in", "twin"), tmp_path / "in")
    read: list[int] = []
    registry.verify(on_bytes=read.append)
    assert sum(read) == tiny.bytes + registry.get("sound").bytes


def test_bundled_models_are_compared_with_their_list(settings: Settings) -> None:
    folder = settings.bundled_models_dir
    for name in ("good", "bad", "free"):
        write_model(folder / f"{name}.gguf")
    sha256 = hashlib.sha256((folder / "good.gguf").read_bytes()).hexdigest()
    (folder / "models.toml").write_text(
        f"[models.good]\nfile = 'good.gguf'\nsha256 = '{sha256}'\n"
        f"[models.bad]\nfile = 'bad.gguf'\nsha256 = '{'0' * 64}'\n"
        "[models.free]\nfile = 'free.gguf'\n"
        f"[models.lost]\nfile = 'lost.gguf'\nsha256 = '{sha256}'\n"
    )
    bad, lost = verify_bundled(settings)
    restore = "`git checkout -- models/` restores it"
    assert bad.message == (
        f"{folder / 'bad.gguf'} has the sha256 {sha256}, not {'0' * 64}: it is damaged; {restore}"
    )
    assert lost.message == f"{folder / 'lost.gguf'} is missing; {restore}"
    assert verify_bundled(settings, "good") == []
