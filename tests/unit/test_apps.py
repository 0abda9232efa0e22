"""Where desktop apps keep models, on every system, and what they cannot load."""

from pathlib import Path

import pytest

from corral.errors import BadRequest, NotFound
from corral.registry.apps import (
    GPT4ALL_ARCHITECTURES,
    check_architecture,
    find_folder,
    gpt4all_folders,
    lm_studio_folders,
)

HOME = Path("/h")


@pytest.mark.parametrize(
    ("system", "environment", "folder"),
    [
        ("Linux", {}, "/h/.local/share/nomic.ai/GPT4All"),
        ("Linux", {"XDG_DATA_HOME": "/x"}, "/x/nomic.ai/GPT4All"),
        ("Linux", {"XDG_DATA_HOME": ""}, "/h/.local/share/nomic.ai/GPT4All"),
        ("Darwin", {"XDG_DATA_HOME": "/x"}, "/h/Library/Application Support/nomic.ai/GPT4All"),
        ("Windows", {"LOCALAPPDATA": "/l"}, "/l/nomic.ai/GPT4All"),
        ("Windows", {}, "/h/AppData/Local/nomic.ai/GPT4All"),
    ],
)
def test_gpt4all(system: str, environment: dict[str, str], folder: str) -> None:
    assert gpt4all_folders(system, HOME, environment)[0] == Path(folder)


def test_lm_studio_is_where_its_pointer_says_then_where_it_used_to_be() -> None:
    usual = [Path("/h/.lmstudio/models"), Path("/h/.cache/lm-studio/models")]
    assert lm_studio_folders(HOME) == usual
    assert lm_studio_folders(HOME, "/disk/lm\n") == [Path("/disk/lm/models"), *usual]


@pytest.mark.parametrize(
    ("app", "there"),
    [
        ("gpt4all", ".local/share/nomic.ai/GPT4All"),
        ("gpt4all", ".var/app/io.gpt4all.gpt4all/data/nomic.ai/GPT4All"),
        ("lmstudio", ".lmstudio/models"),
        ("lmstudio", ".cache/lm-studio/models"),
    ],
)
def test_the_folder_that_is_there_is_found(tmp_path: Path, app: str, there: str) -> None:
    (tmp_path / there).mkdir(parents=True)
    assert find_folder(app, "Linux", tmp_path, {}) == tmp_path / there


def test_the_pointer_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "models").mkdir(parents=True)
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'elsewhere'}\n")
    assert find_folder("lmstudio", "Darwin", tmp_path, {}) == tmp_path / "elsewhere" / "models"


@pytest.mark.parametrize(
    ("app", "name", "folder"),
    [("gpt4all", "GPT4All", ".local/share/nomic.ai/GPT4All"), ("lmstudio", "LM Studio", ".lmstudio/models")],
)  # fmt: skip
def test_a_missing_app_is_told_with_what_to_do(
    tmp_path: Path, app: str, name: str, folder: str
) -> None:
    with pytest.raises(NotFound) as caught:
        find_folder(app, "Linux", tmp_path, {})
    assert caught.value.message == (
        f"{name} keeps its models in {tmp_path / folder}, which is not there: start {name} once, "
        "or name its folder with `--dest`"
    )


def test_an_architecture_that_gpt4all_cannot_load_is_refused_with_its_list() -> None:
    with pytest.raises(BadRequest) as caught:
        check_architecture("gpt4all", "qwen3")
    assert caught.value.message == (
        "GPT4All cannot load the architecture `qwen3`; it loads: "
        f"{', '.join(GPT4ALL_ARCHITECTURES)}. Export to lmstudio or ollama instead"
    )
    check_architecture("gpt4all", "llama")
    check_architecture("lmstudio", "qwen3")
