"""Settings: one order of precedence, every field documented, nothing unknown accepted."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from corral import settings as settings_module
from corral.errors import SettingsError
from corral.settings import ModelSettings, Settings, child_environment, load

EXAMPLE = Path(__file__).resolve().parents[2] / "corral.example.toml"


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corral.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "expected"),
    [
        (None, None, None, 8000),
        (None, None, 1001, 1001),
        (None, "1002", 1001, 1002),
        (1003, "1002", 1001, 1003),
        (1003, None, None, 1003),
    ],
)
def test_flags_beat_environment_beats_file_beats_defaults(
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: Path,
    flag: int | None,
    variable: str | None,
    in_file: int | None,
    expected: int,
) -> None:
    if in_file:
        write(clean_environment, f"port = {in_file}")
    if variable:
        monkeypatch.setenv("CORRAL_PORT", variable)
    assert load({"port": flag}).port == expected


def test_the_settings_file_is_the_flag_then_the_variable_then_the_data_directory(
    monkeypatch: pytest.MonkeyPatch, clean_environment: Path, tmp_path: Path
) -> None:
    write(clean_environment, "port = 1")
    assert load().port == 1
    monkeypatch.setenv("CORRAL_CONFIG", str(write(tmp_path / "b", "port = 2")))
    assert load().port == 2
    assert load(config=write(tmp_path / "c", "port = 3")).port == 3


def test_a_settings_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist"):
        load(config=tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(config=write(tmp_path, "port = = 1"))


@pytest.mark.parametrize(
    ("name", "nearest"), [("CORRAL_PROT", "CORRAL_PORT"), ("CORRAL_DATA_DIR", "CORRAL_DATA")]
)
def test_an_unknown_variable_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"`{name}`; did you mean `{nearest}`"):
        load()


def test_an_unknown_setting_in_a_file_names_the_nearest(clean_environment: Path) -> None:
    write(clean_environment, "api_key = ['x']")
    with pytest.raises(SettingsError, match="`api_key`; did you mean `api_keys`"):
        load()


def test_an_unknown_setting_of_a_model_names_the_nearest(clean_environment: Path) -> None:
    write(clean_environment, "[models.m]\nctx_siz = 512")
    with pytest.raises(SettingsError, match="`ctx_siz`; did you mean `ctx_size`"):
        load()


def test_a_bad_value_tells_the_setting_and_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORRAL_PORT", "99999")
    with pytest.raises(SettingsError, match=r"`port` \(from CORRAL_PORT\).*65535"):
        load()
    with pytest.raises(SettingsError, match=r"`port` \(from a command-line flag\)"):
        load({"port": -1})


def test_lists_and_tables_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_MODELS_DIRS", "/a, /b")
    monkeypatch.setenv("CORRAL_ALIASES", "x=m, y=n")
    settings = load()
    assert settings.models_dirs == (Path("/a"), Path("/b"))
    assert settings.aliases == {"x": "m", "y": "n"}
    monkeypatch.setenv("CORRAL_ALIASES", "x")
    with pytest.raises(SettingsError, match="name=model"):
        load()


def test_the_data_directory_is_never_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CORRAL_DATA")
    monkeypatch.chdir(tmp_path)
    root = settings_module.clone_root()
    assert root is not None
    assert load().data_dir == root / "data"
    monkeypatch.setattr(settings_module, "clone_root", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load().data_dir == tmp_path / "home/.local/share/corral"


def test_secrets_are_hidden_when_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEYS", "s3cret,other")
    settings = load()
    assert [key.get_secret_value() for key in settings.api_keys] == ["s3cret", "other"]
    for shown in (str(settings.redacted()), repr(settings), str(settings)):
        assert "s3cret" not in shown


def test_keys_from_a_file_join_the_others(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\nfirst\n\nsecond \n")
    settings = load({"api_keys_file": path, "api_keys": ["zero"]})
    assert [k.get_secret_value() for k in settings.api_keys] == ["zero", "first", "second"]
    path.write_text("# nothing\n")
    with pytest.raises(SettingsError, match="holds no key"):
        load({"api_keys_file": path})
    with pytest.raises(SettingsError, match="cannot be read"):
        load({"api_keys_file": tmp_path / "none"})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("::", False),
        ("127.evil.example", False),
    ],
)
def test_which_hosts_are_loopback(host: str, loopback: bool) -> None:
    assert load({"host": host}).is_loopback is loopback


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]


def test_llama_server_gets_an_environment_without_keys_and_overrides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LLAMA_ARG_CTX_SIZE", "OPENAI_API_KEY", "HF_TOKEN", "CORRAL_API_KEYS"):
        monkeypatch.setenv(name, "x")
    environment = child_environment({"LLAMA_API_KEY": "k"})
    assert environment["LLAMA_API_KEY"] == "k"
    assert "PATH" in environment
    assert not {"LLAMA_ARG_CTX_SIZE", "OPENAI_API_KEY", "HF_TOKEN", "CORRAL_API_KEYS"} & {
        *environment
    }


def uncommented() -> tuple[dict[str, Any], dict[str, Any]]:
    """The example as it stands, and with the settings that are shown in comments."""
    text = EXAMPLE.read_text()
    full = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", text)
    return tomllib.loads(text), tomllib.loads(full)


def test_the_example_has_every_setting_and_no_other() -> None:
    _, full = uncommented()
    assert set(full) == set(Settings.model_fields)
    assert set(full["models"]["corral-tiny"]) == set(ModelSettings.model_fields)


def test_the_example_shows_the_defaults() -> None:
    shown, _ = uncommented()
    defaults = Settings()
    for name, value in shown.items():
        if name != "models":
            actual = getattr(defaults, name)
            assert (list(actual) if isinstance(actual, tuple) else actual) == value, name


def test_the_example_is_valid_in_full(tmp_path: Path) -> None:
    _, full = uncommented()
    del full["api_keys_file"]
    Settings(**full)


def test_every_setting_is_explained_above_its_line() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"(# )?[a-z_]+ = ", line):
            above = next(
                above
                for above in reversed(lines[:number])
                if not re.match(r"(# )?[a-z_]+ = ", above)
            )
            assert above.startswith(("# ", "[")), f"line {number + 1}: {line}"
