"""Changes are noticed, each once; what failed to load is told to other processes."""

import os
from pathlib import Path

import pytest

from corral.errors import SettingsError
from corral.registry import failures
from corral.registry.catalog import Catalog
from corral.registry.failures import Failure
from corral.registry.scan import scan
from corral.registry.watch import Watch
from corral.settings import Settings
from tests.fakes.gguf_file import write_adapter, write_model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_model(tmp_path / "models/tiny.gguf")
    given = {"data_dir": tmp_path, "bundled_models_dir": tmp_path / "bundled"}
    return Settings.model_validate(given)


def names(catalog: Catalog | None) -> list[str] | None:
    return None if catalog is None else list(catalog.models)


def test_the_first_look_gives_the_catalogue_and_the_next_nothing(settings: Settings) -> None:
    watch = Watch(settings, lambda: 0)
    assert names(watch.poll()) == ["tiny"]
    assert watch.poll() is None


def test_files_that_come_change_and_go_are_noticed(settings: Settings, tmp_path: Path) -> None:
    watch = Watch(settings, lambda: 0)
    watch.poll()
    path = write_adapter(tmp_path / "models/deep/tuned.gguf", "tiny")
    assert names(watch.poll()) == ["tiny", "tuned"]
    os.utime(path, ns=(1, 1))
    changed = watch.poll()
    assert changed is not None
    assert changed.models["tuned"].modified == 1
    path.unlink()
    assert names(watch.poll()) == ["tiny"]


def test_a_file_that_replaces_another_is_noticed(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "models/tiny.gguf"
    os.utime(path, ns=(5, 5))
    watch = Watch(settings, lambda: 0)
    watch.poll()
    other = write_model(tmp_path / "other")
    os.utime(other, ns=(5, 5))
    other.replace(path)
    assert watch.poll() is not None, "same name, size and time, another file"


def test_a_download_in_progress_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    watch = Watch(settings, lambda: 0)
    watch.poll()
    write_model(tmp_path / "models/.tiny.gguf")
    assert watch.poll() is None


def test_the_registrys_counter_is_noticed(settings: Settings) -> None:
    versions = iter([1, 1, 2])
    watch = Watch(settings, lambda: next(versions))
    assert [watch.poll() is not None for _ in range(3)] == [True, False, True]


def test_a_list_that_cannot_be_read_is_told_once(settings: Settings, tmp_path: Path) -> None:
    watch = Watch(settings, lambda: 0)
    watch.poll()
    (tmp_path / "bundled").mkdir()
    listing = tmp_path / "bundled/models.toml"
    listing.write_text("[models")
    with pytest.raises(SettingsError, match="cannot be read"):
        watch.poll()
    assert watch.poll() is None
    listing.unlink()
    assert names(watch.poll()) == ["tiny"]


def test_a_recorded_failure_marks_the_model_until_its_file_changes(
    settings: Settings, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "models/tuned.gguf", "tiny")
    catalog = scan(settings)
    failures.record(settings, [Failure(catalog.models["tuned"], "it does not load")])
    marked = failures.marked(scan(settings), settings)
    assert list(marked.models) == ["tiny"]
    assert [(p.name, p.message) for p in marked.problems] == [("tuned", "it does not load")]
    os.utime(tmp_path / "models/tuned.gguf", ns=(1, 1))
    assert failures.marked(scan(settings), settings).problems == ()
    failures.record(settings, [])
    assert list((tmp_path / "run").iterdir()) == []


def test_a_broken_record_is_no_record(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/not-loaded.json").write_text("[{")
    assert failures.marked(scan(settings), settings) == scan(settings)
