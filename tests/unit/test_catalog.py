"""The catalogue: what is found, under which names, and what a bad file does to the rest."""

from pathlib import Path

import pytest

from corral.errors import ModelNotFound, SettingsError
from corral.registry.catalog import Catalog, tame
from corral.registry.scan import scan
from corral.settings import Settings
from tests.fakes.gguf_file import gguf, write_adapter, write_model


def settings(tmp_path: Path, **more: object) -> Settings:
    given = {"data_dir": tmp_path, "bundled_models_dir": tmp_path / "bundled", **more}
    return Settings.model_validate(given)


def bundle(tmp_path: Path, text: str) -> None:
    write_model(tmp_path / "bundled/base.gguf")
    write_adapter(tmp_path / "bundled/adapter.gguf", "anything")
    (tmp_path / "bundled/models.toml").write_text(text)


BUNDLE = """
[models.tiny]
file = "base.gguf"
description = "small"
sha256 = "abc"
threads = 1
[models.tiny.defaults]
temperature = 0.0
[models.tiny-embed]
file = "base.gguf"
embeddings = true
pooling = "mean"
[models.tiny-folio]
file = "adapter.gguf"
base = "tiny"
"""


def test_the_bundled_models(tmp_path: Path) -> None:
    bundle(tmp_path, BUNDLE)
    catalog = scan(settings(tmp_path, aliases={}))
    assert {name: model.kind for name, model in catalog.models.items()} == {
        "tiny": "base",
        "tiny-embed": "embedding",
        "tiny-folio": "adapter",
    }
    tiny, folio = catalog.find("tiny"), catalog.find("tiny-folio")
    assert (tiny.description, tiny.sha256, tiny.threads) == ("small", "abc", 1)
    assert tiny.defaults == {"temperature": 0.0}
    assert tiny.source == "bundled"
    assert tiny.has_chat_template
    assert catalog.find("tiny-embed").pooling == "mean"
    assert (folio.base, folio.context_length) == ("tiny", 4096)
    assert not catalog.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models.x]\ndescription = 'no file'", "`x` needs `file`"),
        ("[models.x]\nfile = 'base.gguf'\nflie = 1", "flie"),
        ("[models", "cannot be read"),
    ],
)
def test_a_wrong_bundled_list_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    bundle(tmp_path, text)
    with pytest.raises(SettingsError, match=message):
        scan(settings(tmp_path))


def test_dropped_files_are_found_in_all_folders(tmp_path: Path) -> None:
    write_model(tmp_path / "models/one.gguf")
    write_model(tmp_path / "models/deep/er/Two Three (4).gguf")
    write_model(tmp_path / "more/five.gguf")
    write_adapter(tmp_path / "more/six.gguf", "one")
    write_model(tmp_path / "models/mmproj-one.gguf")
    write_model(tmp_path / "models/.partial.gguf")
    catalog = scan(settings(tmp_path, models_dirs=[tmp_path / "more"], aliases={}))
    assert list(catalog.models) == ["Two-Three-4", "five", "one", "six"]
    assert catalog.find("six").base == "one"


def test_a_split_model_is_one(tmp_path: Path) -> None:
    for index in (1, 2, 3):
        write_model(tmp_path / f"models/big-{index:05}-of-00003.gguf")
    write_model(tmp_path / "models/torn-00001-of-00002.gguf")
    catalog = scan(settings(tmp_path))
    assert list(catalog.models) == ["big"]
    assert catalog.models["big"].path.name == "big-00001-of-00003.gguf"
    assert [p.name for p in catalog.problems] == ["torn"]
    assert "torn-00002-of-00002.gguf is missing" in catalog.problems[0].message


def test_a_bad_file_takes_no_other_down(tmp_path: Path) -> None:
    write_model(tmp_path / "models/good.gguf")
    (tmp_path / "models/short.gguf").write_bytes(gguf()[:50])
    (tmp_path / "models/page.gguf").write_text("<html>")
    catalog = scan(settings(tmp_path))
    assert list(catalog.models) == ["good"]
    assert {p.name for p in catalog.problems} == {"short", "page"}
    with pytest.raises(ModelNotFound, match=r"`short` cannot be served: .*truncated"):
        catalog.find("short")


def test_an_adapter_without_its_base_is_a_problem(tmp_path: Path) -> None:
    write_adapter(tmp_path / "models/a.gguf", "absent")
    catalog = scan(settings(tmp_path))
    assert not catalog.models
    assert "needs the base model `absent`" in catalog.problems[0].message


def test_a_whole_model_is_no_adapter(tmp_path: Path) -> None:
    bundle(tmp_path, "[models.a]\nfile = 'base.gguf'\n[models.b]\nfile = 'base.gguf'\nbase = 'a'")
    catalog = scan(settings(tmp_path))
    assert list(catalog.models) == ["a"]
    assert "is a whole model" in catalog.problems[0].message


def test_the_first_file_of_a_name_keeps_it(tmp_path: Path) -> None:
    write_model(tmp_path / "models/a/same.gguf")
    write_model(tmp_path / "models/b/same.gguf")
    catalog = scan(settings(tmp_path))
    assert catalog.models["same"].path.parent.name == "a"
    assert "rename the file" in catalog.problems[0].message


@pytest.mark.parametrize("folder", ["semi;colon", "ha#sh", "com,ma"])
def test_a_path_that_presets_cannot_hold_is_a_problem(tmp_path: Path, folder: str) -> None:
    write_model(tmp_path / "models" / folder / "m.gguf")
    catalog = scan(settings(tmp_path))
    assert not catalog.models
    assert "move or rename it" in catalog.problems[0].message


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    bundle(tmp_path, BUNDLE)
    aliases = {"gpt-4o": "tiny-folio", "lost": "absent"}
    return scan(settings(tmp_path, aliases=aliases))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("tiny", "tiny"),
        ("openai/tiny", "tiny"),
        ("openai%2Ftiny", "tiny"),
        ("tiny%2Dfolio", "tiny-folio"),
        ("gpt-4o", "tiny-folio"),
        ("openai/gpt-4o", "tiny-folio"),
    ],
)
def test_names_that_mean_a_model(catalog: Catalog, asked: str, found: str) -> None:
    assert catalog.find(asked).name == found


@pytest.mark.parametrize(
    "asked", ["", "Tiny", "tiny ", "openai/openai/tiny", "tiny:latest", "x/tiny", "../tiny", "lost"]
)
def test_names_that_mean_none(catalog: Catalog, asked: str) -> None:
    with pytest.raises(
        ModelNotFound, match="there are: `tiny`, `tiny-embed`, `tiny-folio`, `gpt-4o`"
    ):
        catalog.find(asked)


def test_an_alias_may_mean_another_model_for_requests_with_tools(tmp_path: Path) -> None:
    bundle(tmp_path, BUNDLE)
    aliases = {"gpt-4o": "tiny-folio", "gpt-4o+tools": "tiny", "a": "tiny", "a+tools": "absent"}
    catalog = scan(settings(tmp_path, aliases=aliases))
    asked = ["gpt-4o", "openai/gpt-4o", "a", "tiny-folio"]
    found = [catalog.find(name, with_tools=True).name for name in asked]
    assert found == ["tiny", "tiny", "tiny", "tiny-folio"]
    assert catalog.find("gpt-4o").name == "tiny-folio"
    assert catalog.names() == ["tiny", "tiny-embed", "tiny-folio", "gpt-4o", "a"]


def test_only_aliases_that_lead_somewhere_are_listed(catalog: Catalog) -> None:
    assert catalog.names() == ["tiny", "tiny-embed", "tiny-folio", "gpt-4o"]


@pytest.mark.parametrize(
    ("stem", "name"),
    [("a b", "a-b"), ("x:y/z", "x-y-z"), ("--", "model"), ("über", "ber"), ("m" * 300, "m" * 200)],
)
def test_file_names_are_tamed(stem: str, name: str) -> None:
    assert tame(stem) == name
