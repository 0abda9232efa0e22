"""The command line: data on stdout, messages on stderr, no traceback for what is expected."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from corral import cli
from tests.fakes.gguf_file import write_adapter, write_model

runner = CliRunner()


@pytest.fixture(autouse=True)
def models(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = clean_environment / "models"
    write_model(folder / "tiny.gguf")
    write_adapter(folder / "tuned.gguf", "tiny")
    (folder / "bad.gguf").write_text("<html>...")
    monkeypatch.setenv("CORRAL_BUNDLED_MODELS_DIR", str(clean_environment / "none"))
    monkeypatch.setenv("CORRAL_ALIASES", "gpt-4o=tuned")
    return folder


def test_models_ls_prints_a_table_and_complains_on_stderr(models: Path) -> None:
    done = runner.invoke(cli.app, ["models", "ls"])
    assert done.exit_code == 0
    assert "tiny" in done.stdout
    assert "gpt-4o -> tuned" in done.stdout
    assert "bad" not in done.stdout
    assert "not served: bad:" in done.stderr
    assert "is no GGUF" in done.stderr.replace("\n", " ")


def test_models_ls_as_json(models: Path) -> None:
    listing = json.loads(runner.invoke(cli.app, ["models", "ls", "--json"]).stdout)
    assert [model["name"] for model in listing["models"]] == ["tiny", "tuned"]
    assert listing["aliases"] == {"gpt-4o": "tuned"}
    assert listing["problems"][0]["path"] == str(models / "bad.gguf")


def test_models_show_by_alias() -> None:
    shown = json.loads(runner.invoke(cli.app, ["models", "show", "gpt-4o", "--json"]).stdout)
    assert (shown["name"], shown["base"], shown["context_length"]) == ("tuned", "tiny", 4096)
    told = runner.invoke(cli.app, ["models", "show", "tiny"]).stdout
    assert ["context_length", "4096"] in [line.split() for line in told.splitlines()]


def test_dry_run_prints_the_command_and_the_presets(models: Path) -> None:
    out = runner.invoke(cli.app, ["serve", "--dry-run"]).stdout
    assert "llama-server --host 127.0.0.1" in out
    assert "[tiny@1]" in out
    assert f"lora = {models / 'tuned.gguf'}" in out


def test_show_config_hides_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEYS", "s3cret")
    out = runner.invoke(cli.app, ["serve", "--show-config", "--port", "9999"]).stdout
    assert json.loads(out)["port"] == 9999
    assert "s3cret" not in out


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["models", "show", "nope"], "corral: the model `nope` does not exist here", 1),
        (["serve", "--port", "70000"], "corral: setting `port` (from a command-line flag)", 2),
        (["serve", "--config", "/nowhere"], "corral: settings file /nowhere does not exist", 2),
        (["serve", "--host", "0.0.0.0"], "corral: host 0.0.0.0 would let other machines in", 2),
    ],
)
def test_an_expected_error_is_one_message_and_a_status(
    arguments: list[str],
    message: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["corral", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    assert ended.value.code == status
    assert out.err.startswith(message)
    assert "Traceback" not in out.err
    assert out.out == ""


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, corral.cli\n"
        "heavy = {'fastapi', 'uvicorn', 'aiohttp', 'numpy', 'gguf', 'prometheus_client', 'torch'}\n"
        "heavy |= {'sqlalchemy', 'alembic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("verb", ["pull", "convert", "quantize", "measure", "export"])
def test_what_is_a_job_can_be_left_to_a_running_corral(verb: str) -> None:
    """By --corral, and by --url where that does not mean the model's own address."""
    command = typer.main.get_command(cli.app).commands["models"].commands[verb]  # type: ignore[attr-defined]
    (names,) = [p.opts for p in command.params if p.name == "corral"]
    assert names == (["--corral"] if verb == "pull" else ["--corral", "--url"])


def test_every_verb_has_json() -> None:
    """But those that only run, or print nothing that a machine would read."""
    without = {"serve ", "worker ", "files content"}
    nouns = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for noun, command in nouns.items():
        for verb, leaf in getattr(command, "commands", {"": command}).items():
            has = any("--json" in p.opts for p in leaf.params)
            assert has or f"{noun} {verb}" in without, f"corral {noun} {verb} has no --json"
