"""The export stage: what it refuses, names and places; tests/e2e/test_export.py runs it whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import export_model
import ollama_app
import stage
from corral.errors import BadRequest, Conflict, GateError, ToolError
from export_model import arguments, check_free, checked
from merge_check import NEAR_TIE, Answer, Token, compare
from tests.fakes.gguf_file import Value, write_adapter, write_model

ROOT = Path(__file__).resolve().parents[3]
SHAPE: dict[str, Value] = {"llama.block_count": 1, "llama.embedding_length": 8}
QUIET = stage.Reporter(None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.gguf", {**SHAPE, "general.file_type": 1})


def export(model: Path, tmp_path: Path, *more: str, to: str = "folder") -> export_model.Export:
    words = ["--model", str(model), "--name", "ft:m:local::1", "--to", to]
    return checked(arguments().parse_args([*words, "--dest", str(tmp_path / "out"), *more]))


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("gpt4all", "ft-m-local-1-F16.gguf"),
        ("lmstudio", "corral/ft-m-local-1/ft-m-local-1-F16.gguf"),
        ("ollama", "ft-m-local-1/ft-m-local-1-F16.gguf"),
        ("folder", "ft-m-local-1/ft-m-local-1-F16.gguf"),
    ],
)
def test_each_target_has_its_place(model: Path, tmp_path: Path, to: str, place: str) -> None:
    asked = export(model, tmp_path, to=to)
    assert asked.folder / asked.file == tmp_path / "out" / place


def test_a_name_that_ends_in_its_type_says_it_once(model: Path, tmp_path: Path) -> None:
    assert export(model, tmp_path, "--name", "m-f16").file == "m-f16.gguf"


@pytest.mark.parametrize(
    ("more", "to", "message"),
    [
        (["--no-merge"], "lmstudio", "lmstudio loads no adapters: leave out --no-merge"),
        (["--no-merge", "--quantize", "Q8_0"], "ollama", "--no-merge keeps the base as it is: leave out --quantize"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_first(
    model: Path, tmp_path: Path, more: list[str], to: str, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        export(model, tmp_path, *more, to=to)
    assert caught.value.message == message


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a.gguf", "m")
    with pytest.raises(BadRequest) as caught:
        export(adapter, tmp_path)
    assert caught.value.message == f"{adapter} is an adapter: give its base, and it as --lora"


def test_what_is_quantised_is_not_quantised_again(tmp_path: Path) -> None:
    model = write_model(tmp_path / "q.gguf", {**SHAPE, "general.file_type": 15})
    with pytest.raises(BadRequest) as caught:
        export(model, tmp_path, "--quantize", "Q4_0")
    assert caught.value.message == (
        f"{model} is Q4_K_M already; quantise from F16 or F32, or leave out --quantize"
    )


@pytest.mark.parametrize("name", ["m-F16.gguf", "Modelfile", "README.md"])
def test_nothing_that_is_there_is_overwritten(model: Path, tmp_path: Path, name: str) -> None:
    there = tmp_path / "out" / "m" / name
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(Conflict) as caught:
        check_free(export(model, tmp_path, "--name", "m"))
    assert caught.value.message == (
        f"{there} is there already; --force replaces it, --name or --dest take another place"
    )
    check_free(export(model, tmp_path, "--name", "m", "--force"))


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, str(ROOT / "scripts" / "export_model.py"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True)


def test_a_base_is_copied_whole_with_its_papers(model: Path, tmp_path: Path) -> None:
    done = run("--model", model, "--name", "m", "--to", "folder", "--dest", tmp_path / "out",
               "--defaults", '{"temperature": 0.0}', "--licence", "MIT")  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "m"
    assert (folder / "m-F16.gguf").read_bytes() == model.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [
        "Modelfile",
        "README.md",
        "m-F16.gguf",
    ]
    assert json.loads(done.stdout)["template"] is None
    assert "no Go template is kept" in done.stderr
    modelfile = (folder / "Modelfile").read_text()
    assert modelfile.startswith(
        "FROM ./m-F16.gguf\nPARAMETER num_ctx 4096\nPARAMETER temperature 0.0"
    )
    assert "| licence | MIT |" in (folder / "README.md").read_text()


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.gguf"
    done = run("--model", path, "--name", "m", "--to", "folder", "--dest", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: model file {path} is missing\n"


def test_a_template_of_ones_own_goes_into_the_modelfile(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gotmpl"
    own.write_text("{{ .Prompt }}")
    done = run("--model", model, "--name", "m", "--to", "folder", "--dest", tmp_path / "out", "--template", own)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "out" / "m" / "Modelfile").read_text()
    own.write_text('a """ b')
    done = run("--model", model, "--name", "n", "--to", "folder", "--dest", tmp_path / "out", "--template", own)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith(f'--template {own} holds `"""`, which ends it in a Modelfile\n')


# ---- ollama create -----------------------------------------------------------------------------


def fake_ollama(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = folder / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_ollama_create_runs_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ollama(tmp_path, monkeypatch, 'echo "$@" >called; pwd >>called')
    made = ollama_app.create("My-Model", tmp_path, QUIET)
    assert made == {
        "created": True,
        "model": "my-model",
        "command": f"cd {tmp_path} && ollama create my-model -f Modelfile",
    }
    called = (tmp_path / "called").read_text().splitlines()
    assert called == ["create my-model -f Modelfile", str(tmp_path)]


def test_ollama_that_fails_is_told_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ollama(tmp_path, monkeypatch, "echo 'could not connect to ollama server' >&2; exit 1")
    with pytest.raises(ToolError) as caught:
        ollama_app.create("m", tmp_path, QUIET)
    assert caught.value.message == (
        f"the files are in {tmp_path}, but `ollama create` failed: could not connect to ollama "
        f"server; is `ollama serve` running? Then: cd {tmp_path} && ollama create m -f Modelfile"
    )


def test_without_ollama_the_command_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ollama") is None
    assert ollama_app.create("m", tmp_path, QUIET)["created"] is False
    assert capsys.readouterr().err == (
        f"Ollama is not installed here; where it is: cd {tmp_path} && ollama create m -f Modelfile\n"
    )


# ---- the merged model answers as before --------------------------------------------------------


def said(*tokens: tuple[str, float]) -> Answer:
    return [Token(text, lead) for text, lead in tokens]


def test_the_same_answers_are_counted() -> None:
    one = said(("a", 3.0), ("b", 0.01))
    assert compare([one, one], [one, one]) == {"prompts": 2, "same": 2, "near_ties": 0}


def test_a_near_tie_may_fall_the_other_way() -> None:
    before, after = said(("a", 3.0), ("b", NEAR_TIE)), said(("a", 3.0), ("c", 1.0))
    assert compare([before], [after]) == {"prompts": 1, "same": 0, "near_ties": 1}


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (said(("a", 3.0), ("c", 1.0)), "token 2: 'b' became 'c'"),
        (said(("a", 3.0)), "token 2: 'b' became the end"),
    ],
)
def test_any_other_difference_is_refused(after: Answer, message: str) -> None:
    before = said(("a", 3.0), ("b", 2.0))
    with pytest.raises(GateError) as caught:
        compare([before], [after])
    assert caught.value.exit_code == 3
    assert caught.value.message == (
        "the merged model does not answer as base and adapter did: prompt 1, "
        f"{message}; nothing was exported"
    )


def test_an_answer_that_goes_on_is_another_answer() -> None:
    with pytest.raises(GateError, match="the end became 'b'"):
        compare([said(("a", 3.0))], [said(("a", 3.0), ("b", 1.0))])
