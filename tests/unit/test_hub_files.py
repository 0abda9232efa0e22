"""Which files of a repository make up the model that is meant."""

import pytest

from corral.errors import BadRequest, CorralError, InvalidModel
from corral.registry.hub_files import Listing, RepoFile, check_repo, choose

SHA256 = "ab" * 32


def listing(*paths: str) -> Listing:
    files = tuple(RepoFile(path, 10 * n, SHA256) for n, path in enumerate(paths, 1))
    return Listing("org/m", "c" * 40, files)


def chosen(paths: list[str], file: str = "", quant: str = "") -> list[str]:
    return [one.path for one in choose(listing(*paths), file, quant, mmproj=True).files]


@pytest.mark.parametrize(
    ("paths", "quant", "expected"),
    [
        (["m-Q8_0.gguf", "m-Q4_K_M.gguf"], "", "m-Q4_K_M.gguf"),
        (["m-F16.gguf", "m-Q8_0.gguf"], "", "m-Q8_0.gguf"),
        (["README.md", "m-F16.gguf", "m-BF16.gguf"], "", "m-F16.gguf"),
        (["m-Q4_K_M.gguf", "m-IQ4_XS.gguf"], "iq4_xs", "m-IQ4_XS.gguf"),
        (["m-Q4_K_S.gguf", "m.Q4_K.gguf"], "Q4_K", "m.Q4_K.gguf"),
        (["mmproj-Q8_0.gguf", "imatrix-Q8_0.gguf", "m-Q8_0.gguf"], "Q8_0", "m-Q8_0.gguf"),
        (["BF16/m.gguf", "m-Q8_0.gguf"], "Q8_0", "m-Q8_0.gguf"),
    ],
)
def test_the_choice_is_llama_cpps(paths: list[str], quant: str, expected: str) -> None:
    assert chosen(paths, quant=quant)[0] == expected


def test_any_shard_stands_for_all_in_order() -> None:
    paths = [f"m-{n:05}-of-00003.gguf" for n in (3, 1, 2)]
    assert chosen(paths) == chosen(paths, file=paths[0]) == sorted(paths)


def test_the_projector_is_the_nearest_one() -> None:
    paths = [
        "a/m-Q8_0.gguf",
        "mmproj-Q8_0.gguf",
        "a/mmproj-F16.gguf",
        "a/mmproj-Q8_0.gguf",
        "b/mmproj-Q8_0.gguf",
    ]
    assert chosen(paths) == ["a/m-Q8_0.gguf", "a/mmproj-Q8_0.gguf"]
    assert chosen(["a/m-Q8_0.gguf", "b/mmproj-Q8_0.gguf"]) == ["a/m-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("paths", "file", "quant", "message"),
    [
        (
            ["model.safetensors", "config.json"], "", "",
            "`org/m` holds no model as GGUF; it has safetensors: fetch the folder and `corral models "
            "convert` it",
        ),
        (
            ["README.md"], "", "",
            "`org/m` holds no model as GGUF; look for one with `corral models search WORDS`",
        ),
        (["README.md", "a.gguf"], "README.md", "", "`README.md` is no GGUF file in `org/m`; there are: `a.gguf`"),
        (
            ["a.gguf", "mmproj-a.gguf"], "mmproj-a.gguf", "",
            "`mmproj-a.gguf` is the projector of a model: pull the model, it comes with it",
        ),
        (
            ["preset.ini", "a.gguf"], "", "",
            "`org/m` is a repository of presets (preset.ini): llama.cpp fetches nothing else of it. Pull "
            "the models that it names",
        ),
        (
            ["a%20b.gguf"], "", "",
            "llama.cpp's downloader cannot fetch `a%20b.gguf` of `org/m`: the name holds `%`, `#` or `?`; "
            "download it by hand and `corral models pull FILE`",
        ),
        (["m-00007-of-00003.gguf"], "m-00007-of-00003.gguf", "", "`m-00007-of-00003.gguf` of `org/m` is shard 00007 of 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched(paths: list[str], file: str, quant: str, message: str) -> None:
    with pytest.raises(CorralError) as caught:
        chosen(paths, file, quant)
    assert caught.value.message == message


@pytest.mark.parametrize("path", ["../m.gguf", "/m.gguf", "a/../../m.gguf", "a//m.gguf"])
def test_paths_that_leave_their_folder(path: str) -> None:
    with pytest.raises(InvalidModel, match="not a plain path"):
        chosen([path])


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-q5_0.gguf", "Q5_0"),
        ("UD-IQ1_S/m-UD-IQ1_S-00001-of-00003.gguf", "UD-IQ1_S"),
        ("Q8_0/m-00001-of-00002.gguf", "Q8_0"),
        ("m.BF16.gguf", "BF16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("model.gguf", ""),
    ],
)
def test_the_quantisation_in_a_name(path: str, quant: str) -> None:
    assert RepoFile(path, 1).quant == quant


def test_sizes_by_quantisation_add_up_shards() -> None:
    paths = (
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
        "m-F16.gguf",
        "mmproj-F16.gguf",
    )
    assert listing(*paths).quants() == {"Q8_0": 30, "F16": 30}


@pytest.mark.parametrize("repo", ["a/b", "TheBloke/Llama-2-7B-GGUF", "org_1/m.v2", "a/b-c.d_e"])
def test_repository_names_that_are(repo: str) -> None:
    check_repo(repo, "Q4_K_M")


@pytest.mark.parametrize(
    "repo",
    ["", "a", "a/", "/a", "a/b/c", "a/.b", "a/b.", "a--b/c", "ä/b", "a/b\n", "../b", "a/b" * 99],
)
def test_repository_names_that_are_none(repo: str) -> None:
    with pytest.raises(BadRequest, match="is no repository name"):
        check_repo(repo)
