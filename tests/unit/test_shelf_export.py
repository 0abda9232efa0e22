"""The export job: what the stage is told, and where a job from the network may not write."""

from pathlib import Path

import pytest

from corral.errors import BadRequest, CorralError, NotFound, PermissionDenied
from corral.settings import Settings, load
from corral.shelf import KINDS
from corral.shelf.export import HERE, KIND, Spec, plan, plan_here
from tests.fakes.gguf_file import write_adapter, write_model


@pytest.fixture
def settings(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    write_model(clean_environment / "models" / "tiny.gguf")
    write_model(clean_environment / "models" / "odd.gguf", {"general.architecture": "qwen3"})
    write_adapter(clean_environment / "models" / "tuned.gguf", "tiny")
    monkeypatch.setenv("CORRAL_BUNDLED_MODELS_DIR", str(clean_environment / "none"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return load()


def words(spec: Spec, settings: Settings) -> list[str]:
    (stage,) = plan_here(spec, settings, settings.data_dir / "jobs" / "x")
    assert stage.argv[1].endswith("scripts/export_model.py")
    return list(stage.argv[2:])


def test_an_adapter_is_exported_with_its_base(settings: Settings) -> None:
    models = settings.data_dir / "models"
    said = words(Spec(name="tuned", to="ollama", quantize="Q8_0", force=True), settings)
    assert {
        f"--model={models / 'tiny.gguf'}",
        f"--lora={models / 'tuned.gguf'}",
        "--name=tuned",
        f"--dest={settings.data_dir / 'exports' / 'ollama'}",
        "--quantize=Q8_0",
        "--force",
    } < set(said)


def test_a_base_has_no_adapter_to_merge(settings: Settings) -> None:
    said = words(Spec(name="tiny", to="folder", dest="/d"), settings)
    assert not [word for word in said if word.startswith("--lora")]
    assert "--dest=/d" in said
    with pytest.raises(BadRequest) as caught:
        plan_here(Spec(name="tiny", to="ollama", merge=False), settings, Path("x"))
    assert caught.value.message == "`tiny` is no adapter: leave out --no-merge"


def test_the_apps_own_folder_is_taken_where_it_is_there(settings: Settings) -> None:
    with pytest.raises(NotFound, match=r"LM Studio keeps its models in .*`--dest`"):
        plan_here(Spec(name="tiny", to="lmstudio"), settings, Path("x"))
    folder = Path.home() / ".lmstudio" / "models"
    folder.mkdir(parents=True)
    assert f"--dest={folder}" in words(Spec(name="tiny", to="lmstudio"), settings)


def test_what_gpt4all_cannot_load_is_refused_before_a_stage_runs(settings: Settings) -> None:
    with pytest.raises(BadRequest, match="GPT4All cannot load the architecture `qwen3`"):
        plan_here(Spec(name="odd", to="gpt4all", dest="/d"), settings, Path("x"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dest", "/etc/cron.d", "a job may export into {allowed} or an app's own folder only, not /etc/cron.d; run `corral models export` on that machine for another place"),
        ("dest", "{allowed}/../../x", "a job may export into {allowed} or an app's own folder only, not {allowed}/../../x; run `corral models export` on that machine for another place"),
        ("template", "/etc/passwd", "a job reads no `template` and no `prompts` file; run `corral models export` on that machine"),
        ("prompts", "/etc/passwd", "a job reads no `template` and no `prompts` file; run `corral models export` on that machine"),
    ],
)  # fmt: skip
def test_a_job_from_the_network_names_no_other_folder_or_file(
    settings: Settings, field: str, value: str, message: str
) -> None:
    allowed = settings.data_dir.resolve() / "exports"
    spec = Spec.model_validate(
        {"name": "tiny", "to": "folder", field: value.format(allowed=allowed)}
    )
    with pytest.raises(PermissionDenied) as caught:
        plan(spec, settings, Path("x"))
    assert caught.value.message == message.format(allowed=allowed)


def test_a_job_may_name_a_folder_among_the_exports(settings: Settings) -> None:
    dest = settings.data_dir / "exports" / "mine"
    (stage,) = plan(Spec(name="tiny", to="folder", dest=str(dest)), settings, Path("x"))
    assert f"--dest={dest}" in stage.argv


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"name": "tiny"}, "spec.to"),
        ({"name": "tiny", "to": "jan"}, "spec.to"),
        ({"name": "tiny", "to": "folder", "publisher": "../x"}, "spec.publisher"),
        ({"name": "tiny", "to": "folder", "quantize": "Q8_0 x"}, "spec.quantize"),
        ({"name": "tiny", "to": "folder", "path": "x"}, "spec.path"),
    ],
)
def test_a_wrong_spec_is_told_by_its_field(spec: dict[str, str], field: str) -> None:
    with pytest.raises(CorralError) as caught:
        KIND.parse(spec)
    assert caught.value.param == field


def test_the_queue_has_the_kind_that_asks_where() -> None:
    assert KINDS.find("export") is KIND
    assert HERE.plan is not KIND.plan
