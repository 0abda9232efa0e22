"""The registry as a source of the catalogue, beside the bundled models and dropped files."""

from pathlib import Path

import pytest

from corral.registry.manifest import ManifestFile
from corral.registry.scan import scan
from corral.registry.store import Registry
from corral.runtime.presets import lay_out
from corral.settings import Settings
from tests.fakes.artifacts import adapter, base_model, split_model
from tests.fakes.gguf_file import write_adapter, write_model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {"data_dir": tmp_path / "data", "bundled_models_dir": tmp_path / "bundled"}
    return Settings.model_validate({**given, "aliases": {"gpt-4o": "bundled-one"}})


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "in"


def test_without_a_database_none_is_made(settings: Settings) -> None:
    write_model(settings.data_dir / "models/dropped.gguf")
    assert list(scan(settings).models) == ["dropped"]
    assert [path.name for path in settings.data_dir.iterdir()] == ["models"]


def test_a_registered_model_is_served_from_the_shelf(settings: Settings, inbox: Path) -> None:
    manifest = base_model(inbox, description="small", defaults={"temperature": 0.5})
    added = Registry(settings).add(manifest, inbox)
    model = scan(settings).find("tiny")
    assert (model.source, model.path, model.kind) == ("registry", added.weights, "base")
    assert (model.sha256, model.size) == (added.main[0].sha256, added.bytes)
    assert (model.description, model.defaults) == ("small", {"temperature": 0.5})
    assert (model.architecture, model.context_length) == ("llama", 4096)
    assert model.has_chat_template
    assert model.created > 1_700_000_000


def test_bundled_comes_before_registry_before_folders(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox, "same"), inbox)
    registry.add(base_model(inbox, "taken"), inbox)
    write_model(settings.data_dir / "models/same.gguf")
    write_model(settings.bundled_models_dir / "b.gguf")
    (settings.bundled_models_dir / "models.toml").write_text("[models.taken]\nfile = 'b.gguf'")
    catalog = scan(settings)
    assert {m.name: m.source for m in catalog.models.values()} == {
        "same": "registry",
        "taken": "bundled",
    }
    assert [problem.name for problem in catalog.problems] == ["taken", "same"]


def test_only_the_newest_revision_is_served(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox), inbox)
    newer = registry.add(base_model(inbox, text="two"), inbox)
    assert scan(settings).find("tiny").path == newer.weights


def test_an_adapter_with_colons_reaches_the_presets(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox), inbox)
    tuned = registry.add(adapter(inbox, "ft:tiny:local::abc"), inbox)
    catalog = scan(settings)
    assert catalog.find("openai/ft:tiny:local::abc").path == tuned.weights
    assert catalog.find("ft%3Atiny%3Alocal%3A%3Aabc").context_length == 4096
    layout = lay_out(catalog, settings)
    assert f"lora = {tuned.weights}" in layout.ini()
    assert "ft:tiny" not in layout.ini()
    assert layout.placements["ft:tiny:local::abc"].lora == ({"id": 0, "scale": 1.0},)


def test_a_colon_is_for_adapters_only(settings: Settings) -> None:
    folder = settings.bundled_models_dir
    write_model(folder / "b.gguf")
    write_adapter(folder / "a.gguf", "b")
    (folder / "models.toml").write_text(
        "[models.b]\nfile = 'b.gguf'\n[models.'x:y']\nfile = 'b.gguf'\n"
        "[models.'ft:b']\nfile = 'a.gguf'\nbase = 'b'"
    )
    catalog = scan(settings)
    assert list(catalog.models) == ["b", "ft:b"]
    assert catalog.problems[0].message.startswith("`x:y` is no model name: letters")


def test_an_adapter_for_other_weights_is_not_served(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    old = registry.add(base_model(inbox), inbox)
    registry.add(adapter(inbox), inbox)
    new = registry.add(base_model(inbox, text="two"), inbox)
    catalog = scan(settings)
    assert list(catalog.models) == ["tiny"]
    was, now = old.main[0].sha256[:12], new.main[0].sha256[:12]
    assert catalog.problems[0].message == (
        f"adapter `tuned` was made for other weights of `tiny` (sha256 {was}…, here {now}…); "
        "make it again, or bring those weights back"
    )
    registry.remove("tiny", revision=2)
    assert list(scan(settings).models) == ["tiny", "tuned"]


def test_a_split_model_and_its_projector(settings: Settings, inbox: Path) -> None:
    write_model(inbox / "mmproj-big.gguf", {"general.architecture": "clip"})
    parts = split_model(inbox)
    projector = ManifestFile(name="mmproj-big.gguf", role="mmproj")
    manifest = parts.model_copy(update={"files": (*parts.files, projector)})
    added = Registry(settings).add(manifest, inbox)
    model = scan(settings).find("big")
    assert model.path == added.folder / "big-00001-of-00003.gguf"
    assert model.mmproj == added.folder / "mmproj-big.gguf"
    assert model.size == sum(file.bytes for file in added.main)
    assert f"mmproj = {model.mmproj}\n" in lay_out(scan(settings), settings).ini()


def test_a_missing_file_is_a_problem_of_that_model_only(settings: Settings, inbox: Path) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox), inbox)
    lost = registry.add(split_model(inbox), inbox)
    shard = lost.folder / "big-00002-of-00003.gguf"
    shard.unlink()
    catalog = scan(settings)
    assert list(catalog.models) == ["tiny"]
    message = f"{shard} is missing; `corral models verify big` says more"
    assert [(p.name, p.message) for p in catalog.problems] == [("big", message)]


def test_an_alias_made_here_ends_what_the_settings_say_of_it_with_tools(
    settings: Settings, inbox: Path
) -> None:
    aliases = {"gpt-4o": "bundled-one", "gpt-4o+tools": "bundled-one"}
    settings = settings.model_copy(update={"aliases": aliases})
    registry = Registry(settings)
    registry.add(base_model(inbox), inbox)
    registry.alias("gpt-4o", "tiny")
    assert scan(settings).find("gpt-4o", with_tools=True).name == "tiny"
    registry.alias("gpt-4o", None)
    registry.alias("gpt-4o+tools", "tiny")
    assert scan(settings).find("gpt-4o", with_tools=True).name == "tiny"


def test_aliases_made_here_come_before_those_of_the_settings(
    settings: Settings, inbox: Path
) -> None:
    registry = Registry(settings)
    registry.add(base_model(inbox), inbox)
    registry.alias("gpt-4o", "tiny")
    registry.alias("lost", "nowhere")
    catalog = scan(settings)
    assert catalog.find("openai/gpt-4o").name == "tiny"
    assert catalog.names() == ["tiny", "gpt-4o"]
