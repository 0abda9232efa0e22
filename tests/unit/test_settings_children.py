"""What children get of the settings: all that was set, secrets only where they are needed."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from corral import settings as settings_module
from corral.settings import Settings, as_environment, corral_environment, stage_environment


def test_settings_survive_the_way_through_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Settings(
        data_dir=tmp_path / "d",
        database_url=SecretStr("sqlite:////x/y.db"),
        models_dirs=(tmp_path / "a", tmp_path / "b"),
        aliases={"a": "b", "c": "d"},
        preload=(),
        threads=3,
        worker_count=2,
        stop_timeout=1.5,
    )
    for name, value in as_environment(given).items():
        monkeypatch.setenv(name, value)
    again = settings_module.load()
    assert again == given
    assert again.model_fields_set == given.model_fields_set


def test_defaults_stay_defaults_and_keys_stay_here(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, api_keys=(SecretStr("k"),), threads=None)
    assert as_environment(settings) == {"CORRAL_DATA": str(tmp_path)}


def test_a_stage_gets_no_secret_of_ours_and_a_worker_the_databases_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "CORRAL_API_KEYS",
        "OPENAI_API_KEY",
        "LLAMA_API_KEY",
        "TEACHER_API_KEY",
        "HF_TOKEN",
    ):
        monkeypatch.setenv(name, "secret")
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("sqlite:////x/y.db"))
    found = stage_environment(settings, {"EXTRA": "1"})
    assert {name for name, value in found.items() if value == "secret"} == {"HF_TOKEN"}
    assert (found["CORRAL_DATA"], found["EXTRA"]) == (str(tmp_path), "1")
    assert "CORRAL_DATABASE_URL" not in found
    assert corral_environment(settings)["CORRAL_DATABASE_URL"] == "sqlite:////x/y.db"


@pytest.mark.parametrize(
    ("name", "value"), [("role", "node"), ("worker_count", -1), ("worker_count", 17)]
)
def test_a_role_or_number_of_workers_that_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Settings.model_validate({name: value})
