"""`corral evaluate`: which program is run over which files, and what is printed of its figures."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corral import cli
from corral.cli import evaluate as evaluate_cli
from corral.errors import BadRequest, ModelNotFound, PermissionDenied
from corral.settings import Settings
from corral.shelf import KINDS
from corral.shelf import evaluate as shelf
from tests.fakes.gguf_file import write_adapter, write_model

runner = CliRunner()


@pytest.fixture
def settings(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    models = clean_environment / "models"
    write_model(models / "tiny.gguf")
    write_adapter(models / "tuned.gguf", "tiny")
    monkeypatch.setenv("CORRAL_BUNDLED_MODELS_DIR", str(clean_environment / "none"))
    monkeypatch.setenv("CORRAL_ALIASES", "gpt-4o=tuned")
    (clean_environment / "held.jsonl").write_text("{}\n")
    return Settings(
        data_dir=clean_environment,
        bundled_models_dir=clean_environment / "none",
        aliases={"gpt-4o": "tuned"},
    )


def argv(settings: Settings, **given: Any) -> list[str]:
    """What the one stage runs, without the interpreter and the script."""
    spec = shelf.HERE.parse({"file": "/held.jsonl", **given})
    assert isinstance(spec, shelf.Spec)
    (stage,) = shelf.plan_here(spec, settings, settings.data_dir)
    assert Path(stage.argv[1]).name == "evaluate.py"
    return list(stage.argv[2:])


def test_an_adapter_is_compared_with_its_base(settings: Settings) -> None:
    models = settings.data_dir / "models"
    base, tuned = f"{models}/tiny.gguf", f"{models}/tiny.gguf+{models}/tuned.gguf"
    wanted = ["--file=/held.jsonl", f"--variant=tiny={base}", f"--variant=tuned={tuned}", "--loss"]
    for name in ("tuned", "gpt-4o", "openai/tuned"):
        assert argv(settings, model=name) == [*wanted, "--no-table"]


def test_a_model_alone_and_against_another(settings: Settings) -> None:
    models = settings.data_dir / "models"
    one = f"--variant=tiny={models}/tiny.gguf"
    assert argv(settings, model="tiny", loss=False, rows=5, html="/o.html", max_tokens=9) == [
        "--file=/held.jsonl", "--rows=5", "--html=/o.html", "--max-tokens=9", one, "--no-table",
    ]  # fmt: skip
    assert argv(settings, model="tiny", against="tuned")[2] == one


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_with_an_address_the_models_are_names_there(settings: Settings, url: str) -> None:
    found = argv(settings, model="a", against="b", url=url)
    assert found == [
        "--file=/held.jsonl", "--url=http://h:1/v1", "--model=a", "--against=b", "--no-table",
    ]  # fmt: skip


def test_what_cannot_be_compared_is_told(settings: Settings) -> None:
    with pytest.raises(BadRequest, match="the same model") as same:
        argv(settings, model="gpt-4o", against="tuned")
    assert same.value.param == "against"
    with pytest.raises(ModelNotFound):
        argv(settings, model="nothing")


def test_a_job_over_the_network_stays_inside(settings: Settings) -> None:
    kind = KINDS.find("evaluate")
    inside = str(settings.data_dir / "held.jsonl")
    kind.plan(kind.parse({"model": "tiny", "file": inside}), settings, settings.data_dir)
    for given in (
        {"file": "/etc/passwd"},
        {"file": inside, "html": "/tmp/x.html"},
        {"file": inside, "url": "http://169.254.169.254"},
        {"file": inside, "api_key_file": "/etc/passwd"},
    ):
        with pytest.raises(PermissionDenied):
            kind.plan(kind.parse({"model": "tiny", **given}), settings, settings.data_dir)


def figures(model: str, exact: float, **more: Any) -> dict[str, Any]:
    made = {"model": model, "rows": 20, "exact": exact, "valid_json": 1.0, "schema_valid": None}
    made |= {"field_f1": 0.5, "loss": None, "perplexity": None, "p50_ms": 12.3, "p95_ms": 1234.5}
    return made | more


GAIN = {"gain": 0.9, "interval": (0.8, 1.0), "sure": True}
TWO = {
    "rows": 20,
    "models": [
        figures("tiny", 0.05),
        figures("ft:tiny:local::[b]", 0.95, loss=0.1, perplexity=1.1),
    ],
    "gains": [{"model": "ft", "against": "tiny", "exact": GAIN}],
}


def ran(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any], *more: str) -> tuple[Any, Any]:
    """The command with a job that gives this result; what was printed, and what the job was given."""
    seen: dict[str, Any] = {}

    def run_kind(_kind: Any, given: dict[str, Any], **_: Any) -> dict[str, Any]:
        seen.update(given)
        if key := given.get("api_key_file"):
            assert os.stat(key).st_mode & 0o777 == 0o600
            seen["key"] = Path(key).read_text()
        return {"result": result}

    monkeypatch.setattr(evaluate_cli, "run_kind", run_kind)
    return runner.invoke(cli.app, ["evaluate", "--model", "m", "--file", "f", *more]), seen


def test_the_figures_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    done, seen = ran(monkeypatch, TWO)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["20", "ROWS", "tiny", "ft:tiny:local::[b]"]
    assert lines[1] == ["whole", "answer", "right", "5.0%", "95.0%"]
    assert ["loss", "-", "0.1000"] in lines
    assert not any("schema" in line for line in lines)
    assert "+90.0 points right (95% interval +80.0 to +100.0: more than chance)" in done.stdout
    assert seen["file"] == str(Path("f").absolute())


def test_one_models_figures_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = ran(monkeypatch, figures("tiny", 0.5))
    assert "whole answer right" in done.stdout
    done, _ = ran(monkeypatch, TWO, "--json")
    assert json.loads(done.stdout)["models"][1]["exact"] == 0.95


def test_the_key_is_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEYS", "secret,other")
    _, seen = ran(monkeypatch, TWO, "--url", "http://127.0.0.1:9")
    assert seen.pop("key") == "secret"
    assert "secret" not in json.dumps(seen)
    assert not Path(seen["api_key_file"]).exists()
    _, local = ran(monkeypatch, TWO)
    assert "api_key_file" not in local
