"""Which hub, which cache, whose token: what the environment says."""

from pathlib import Path

import pytest

from corral.settings import hub_access


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder with nothing in it."""
    for name in (
        "MODEL_ENDPOINT",
        "XDG_CACHE_HOME",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_holds_when_nothing_is_set(home: Path) -> None:
    access = hub_access()
    assert access.endpoint == "https://huggingface.co"
    assert access.cache == home / ".cache" / "huggingface" / "hub"
    assert access.environment() == {
        "MODEL_ENDPOINT": access.endpoint,
        "LLAMA_CACHE": str(access.cache),
    }
    assert not access.offline


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"HF_ENDPOINT": "https://mirror/"}, "https://mirror"),
        ({"HF_ENDPOINT": "https://mirror", "MODEL_ENDPOINT": "https://other/"}, "https://other"),
    ],
)
def test_mirrors(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_access().endpoint == endpoint


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "/home"}, "/home/hub"),
        ({"HF_HOME": "/home", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}, "/new"),
        ({"HF_HUB_CACHE": "/new", "LLAMA_CACHE": "/llama"}, "/llama"),
    ],
)
def test_the_cache_is_llama_cpps(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cache: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_access().cache == Path(cache)


def test_the_token_is_of_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    files = {"default": home / ".cache" / "huggingface" / "token", "named": home / "named"}
    files["default"].parent.mkdir(parents=True)
    for name, path in files.items():
        path.write_text(f"hf_{name}\n")
    assert hub_access().token.get_secret_value() == "hf_default"
    monkeypatch.setenv("HF_TOKEN_PATH", str(files["named"]))
    assert hub_access().token.get_secret_value() == "hf_named"
    monkeypatch.setenv("HF_TOKEN", " hf_given ")
    access = hub_access()
    assert access.environment()["HF_TOKEN"] == "hf_given"
    assert "hf_given" not in repr(access)


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("TRUE", True), ("0", False), ("", False)]
)
def test_offline(monkeypatch: pytest.MonkeyPatch, value: str, offline: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub_access().offline is offline
