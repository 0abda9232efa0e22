"""A disk that is really full, a tmpfs of 48 MB: what is said, and that nothing is left half done.

Needs root, for the mount; without it the tests fail and say so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import database
from corral.errors import CorralError, DiskFullError, StoreError
from corral.registry.blobs import SPARE_BYTES, BlobStore
from corral.registry.store import Registry
from corral.settings import Settings, load
from tests.e2e.corral_process import child_environment
from tests.fakes.artifacts import base_model

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "corral-tiny.gguf"
DISK_BYTES = 48 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "corral-test", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"this test needs root and mount(8): {done.stderr}"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def settings(disk: Path) -> Settings:
    return Settings(data_dir=disk / "data", bundled_models_dir=disk / "none")


def fill(disk: Path, leave: int = 0) -> Path:
    """Write until only `leave` bytes are free."""
    filler = disk / "filler"
    with filler.open("ab") as file:
        while (rest := shutil.disk_usage(disk).free - leave) > 0:
            try:
                file.write(bytes(min(rest, 1 << 20)))
                file.flush()
            except OSError:
                break
    return filler


def files_of(registry: Registry) -> set[str]:
    """Every file of the store but its lock and its mark."""
    kept = {path for path in registry.blobs.blobs.rglob("*") if path.is_file()}
    return {path.name for path in kept} - {"lock", "database-id"}


def test_what_does_not_fit_is_refused_before_the_first_byte(
    disk: Path, settings: Settings, tmp_path: Path
) -> None:
    registry = Registry(settings)
    manifest = base_model(tmp_path / "in")
    registry.list()
    with pytest.raises(DiskFullError) as refused:
        registry.add(manifest, tmp_path / "in")
    needed = (tmp_path / "in" / "tiny.gguf").stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(disk).free
    assert refused.value.message == (
        f"the disk of {settings.data_dir} is full: {needed:,} bytes are needed, {free:,} are free; "
        "`corral models gc` and `corral models rm NAME` make room, or set CORRAL_DATA to a larger disk"
    )
    assert files_of(registry) == set()


STEPS = (
    "temporary made",
    "blob written",
    "blob named",
    "shelf folder made",
    "shelf folder on disk",
)


@pytest.mark.parametrize("full_at", STEPS)
def test_a_disk_that_fills_up_at_any_step_leaves_nothing_half_registered(
    disk: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    monkeypatch.setattr(BlobStore, "check_space", lambda self, needed: None)
    # Larger than what SQLite and the file system still find room for.
    manifest = base_model(tmp_path / "in", text="x" * 200_000)
    database.ready(settings)
    filled: list[Path] = []

    def at_step(step: str) -> None:
        if step == full_at and not filled:
            filled.append(fill(disk))

    said = None
    try:
        Registry(settings, at_step).add(manifest, tmp_path / "in")
    except (DiskFullError, StoreError) as error:
        said = error.message
    assert filled, "the step was never reached"
    registry = Registry(settings)
    if said is None:
        assert [artifact.name for artifact in registry.list()] == ["tiny"]
    else:
        print(f"full at {full_at!r}: {said}")
        assert "full" in said
        assert registry.list() == []
    assert registry.verify() == []
    filled[0].unlink()
    registry.gc()
    again = registry.add(manifest, tmp_path / "in")
    assert registry.verify() == []
    assert files_of(registry) == {file.sha256 for file in again.manifest.files}


def test_a_full_disk_while_quantising_is_said_and_leaves_nothing(disk: Path) -> None:
    out = disk / "out"
    out.mkdir()
    fill(disk, leave=2_000_000)
    argv = [sys.executable, str(ROOT / "scripts" / "quantize_gguf.py"), "--model", str(MODEL)]
    argv += ["--out", str(out), "--imatrix", "none", "--threads", "1", "Q8_0"]
    done = subprocess.run(argv, capture_output=True, text=True, env=child_environment())
    assert done.returncode == 1
    free = shutil.disk_usage(disk).free
    assert done.stderr.startswith("error: corral-tiny-Q8_0 needs ")
    assert f"bytes in {out}, {free:,} are free; free " in done.stderr
    assert list(out.iterdir()) == []


def test_a_disk_that_fills_up_while_llama_quantize_writes(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its estimate said that there is room, then somebody else took it."""
    import quantize_gguf
    import stage

    out = disk / "out"
    fill(disk, leave=8_000_000)
    real = quantize_gguf.run

    def late(*given: object) -> str:
        fill(disk, leave=1_000_000)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(quantize_gguf, "run", late)
    given = ["--model", str(MODEL), "--out", str(out), "--imatrix", "none", "Q8_0"]
    args = quantize_gguf.arguments().parse_args([*given, "--bin", str(load().llama_bin_dir)])
    with open(os.devnull, "a", encoding="utf-8") as nowhere, pytest.raises(CorralError) as refused:
        quantize_gguf.main(args, stage.Reporter(nowhere))
    assert refused.value.message.startswith("the disk filled up while Q8_0 was written: it needs ")
    assert f"bytes in {out}, " in refused.value.message
    assert list(out.iterdir()) == []
