"""GGUF files that a person names, described as a manifest."""

from pathlib import Path

import pytest

from corral.errors import BadRequest, InvalidModel
from corral.registry.local_files import describe
from corral.registry.manifest import BaseOf
from tests.fakes.artifacts import split_model
from tests.fakes.gguf_file import write_adapter, write_model


def test_a_model_is_called_like_its_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "My Model (1).gguf", {"general.license": "apache-2.0"})
    local = describe([path], None, None)
    manifest = local.manifest
    assert (manifest.name, manifest.kind, manifest.base) == ("My-Model-1", "base", None)
    assert [(file.name, file.role) for file in manifest.files] == [("My-Model-1.gguf", "weights")]
    assert local.paths == {"My-Model-1.gguf": path}
    assert (manifest.licence, manifest.source) == ("apache-2.0", {"file": str(path)})
    assert describe([path], "mine", None, "d").manifest.name == "mine"


def test_an_adapter_says_what_it_belongs_to(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.gguf", "Some Base")
    manifest = describe([path], None, None).manifest
    assert (manifest.kind, manifest.base) == ("adapter", BaseOf(name="Some-Base"))
    assert manifest.files[0].role == "adapter"
    assert describe([path], None, "other").manifest.base == BaseOf(name="other")
    silent = write_model(tmp_path / "s.gguf", {"general.type": "adapter"})
    with pytest.raises(BadRequest) as refused:
        describe([silent], None, None)
    assert refused.value.message == (
        f"the adapter {silent} does not say what it belongs to; give --base NAME"
    )


def test_an_embedding_model_is_known_as_one(tmp_path: Path) -> None:
    path = write_model(tmp_path / "e.gguf", {"llama.pooling_type": 1})
    assert describe([path], None, None).manifest.kind == "embedding"


@pytest.mark.parametrize("given", [[1], [2], [3, 1], [1, 2, 3]])
def test_one_shard_stands_for_all(tmp_path: Path, given: list[int]) -> None:
    split_model(tmp_path)
    files = [tmp_path / f"big-{index:05}-of-00003.gguf" for index in given]
    local = describe(files, None, None)
    assert local.manifest.name == "big"
    assert [file.name for file in local.manifest.files] == [
        f"big-{index:05}-of-00003.gguf" for index in (1, 2, 3)
    ]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    split_model(tmp_path)
    (tmp_path / "big-00002-of-00003.gguf").unlink()
    first = tmp_path / "big-00001-of-00003.gguf"
    with pytest.raises(InvalidModel) as refused:
        describe([first], None, None)
    assert refused.value.message == (
        f"{first}: the shard big-00002-of-00003.gguf is missing; put all 3 into one folder"
    )


def test_a_projector_goes_with_its_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    projector = write_model(tmp_path / "vision.gguf", {"general.architecture": "clip"})
    manifest = describe([projector, model], None, None).manifest
    assert [(f.name, f.role) for f in manifest.files] == [
        ("m.gguf", "weights"),
        ("vision.gguf", "mmproj"),
    ]
    with pytest.raises(BadRequest, match="only an mmproj file is given; name the model's GGUF too"):
        describe([projector], None, None)


def test_what_is_not_one_model_is_refused(tmp_path: Path) -> None:
    one, two = write_model(tmp_path / "one.gguf"), write_model(tmp_path / "two.gguf")
    with pytest.raises(BadRequest, match=r"2 models: one\.gguf, two\.gguf; add one at a time"):
        describe([one, two], None, None)
    with pytest.raises(BadRequest, match=r"one\.gguf is a whole model, no adapter: leave --base"):
        describe([one], None, "tiny")
    with pytest.raises(InvalidModel, match=r"none\.gguf is missing"):
        describe([tmp_path / "none.gguf"], None, None)
