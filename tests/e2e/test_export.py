"""The bundled adapter, exported to every target by the real tools, answers as base and adapter do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import merge_check
import ollama_modelfile
from corral.datasets.template_server import Request, TemplateServer
from corral.registry.gguf_header import read_header
from corral.settings import load
from llama_tools import LlamaTools
from merge_check import Answer
from tests.fakes.gguf_file import write_model

ROOT = Path(__file__).resolve().parents[2]
BASE, ADAPTER = (ROOT / "models" / name for name in ("corral-tiny.gguf", "corral-tiny-folio.gguf"))
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
OLLAMA = ROOT / "tests" / "data" / "ollama"
PROMPTS = 5
LONGEST = 600


def export(*words: object, data: Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "corral", "models", "export", *map(str, words)]
    return subprocess.run([*argv, "--data-dir", str(data)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def held_out() -> list[list[dict[str, Any]]]:
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()[:PROMPTS]
    return [json.loads(line)["messages"][:-1] for line in lines]


@pytest.fixture(scope="module")
def before(held_out: list[list[dict[str, Any]]]) -> list[Answer]:
    return answers(BASE, ADAPTER, held_out)


def answers(model: Path, lora: Path | None, prompts: list[list[dict[str, Any]]]) -> list[Answer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_check, "TOKENS", LONGEST)
        return merge_check.answers(LlamaTools(load().llama_bin_dir), model, lora, prompts, 1)


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("gpt4all", "corral-tiny-folio-F32.gguf"),
        ("lmstudio", "corral/corral-tiny-folio/corral-tiny-folio-F32.gguf"),
        ("ollama", "corral-tiny-folio/corral-tiny-folio-F32.gguf"),
        ("folder", "corral-tiny-folio/corral-tiny-folio-F32.gguf"),
    ],
)
def test_each_target_answers_as_base_and_adapter_did(
    to: str, place: str, tmp_path: Path, held_out: list[list[dict[str, Any]]], before: list[Answer]
) -> None:
    dest = tmp_path / "dest"
    done = export("corral-tiny-folio", "--to", to, "--dest", dest, "--json", data=tmp_path / "data")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    file = dest / place
    assert result["path"] == str(file)
    assert result["merge_check"]["prompts"] == len(merge_check.PROMPTS)
    header = read_header(file)
    assert header.metadata["general.name"] == "corral-tiny-folio"
    assert header.metadata["general.file_type"] == 0
    assert not header.is_adapter
    after = answers(file, None, held_out)
    assert [text(answer) for answer in after] == [text(answer) for answer in before]
    assert all(len(answer) > 20 for answer in after)
    assert not list(dest.rglob("*.part"))


def text(answer: Answer) -> str:
    return "".join(token.text for token in answer)


def test_a_quantised_export_loads_and_says_its_type(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    words = ("corral-tiny-folio", "--to", "ollama", "--dest", dest, "--quantize", "q8_0")
    done = export(*words, data=tmp_path / "data")
    assert done.returncode == 0, done.stderr
    folder = dest / "corral-tiny-folio"
    file = folder / "corral-tiny-folio-Q8_0.gguf"
    assert read_header(file).metadata["general.file_type"] == 7
    assert answers(file, None, [[{"role": "user", "content": "Hello"}]])
    modelfile = (folder / "Modelfile").read_text(encoding="utf-8")
    assert modelfile.startswith("FROM ./corral-tiny-folio-Q8_0.gguf\nTEMPLATE ")
    assert ollama_modelfile.CORRAL in modelfile
    assert "PARAMETER temperature 0.0\n" in modelfile
    again = export(*words, data=tmp_path / "data")
    assert again.returncode != 0
    assert f"{file} is there already; --force replaces it" in again.stderr
    assert export(*words, "--force", data=tmp_path / "data").returncode == 0


def test_base_and_adapter_apart(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    words = ("corral-tiny-folio", "--to", "ollama", "--dest", dest, "--no-merge")
    done = export(*words, data=tmp_path / "data")
    assert done.returncode == 0, done.stderr
    folder = dest / "corral-tiny-folio"
    adapter = folder / "corral-tiny-folio-adapter.gguf"
    assert adapter.read_bytes() == ADAPTER.read_bytes()
    assert (folder / "corral-tiny-folio-F32.gguf").read_bytes() == BASE.read_bytes()
    assert f"ADAPTER ./{adapter.name}\n" in (folder / "Modelfile").read_text(encoding="utf-8")


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    alien = write_model(
        tmp_path / "alien.gguf", {"general.type": "adapter", "adapter.type": "lora"}
    )
    argv = [sys.executable, str(ROOT / "scripts" / "export_model.py"), "--model", str(BASE)]
    argv += ["--lora", str(alien), "--name", "x", "--to", "folder", "--dest", str(tmp_path / "out")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()


def test_llama_server_and_go_render_the_same_conversations() -> None:
    """But for the white space and order of JSON, which is Go's own."""
    conversations = json.loads((OLLAMA / "conversations.json").read_text(encoding="utf-8"))
    by_go = json.loads((OLLAMA / "rendered.json").read_text(encoding="utf-8"))["corral"]["texts"]
    requests = [Request(one["messages"], one.get("tools"), True) for one in conversations]
    with TemplateServer(BASE, load().llama_bin_dir / "llama-server") as server:
        by_jinja = server.render(requests)
    for conversation, ours, theirs in zip(conversations, by_jinja, by_go, strict=True):
        if "tools" not in conversation and '"tool_calls"' not in json.dumps(conversation):
            assert theirs == ours
        assert pieces(theirs) == pieces(ours)


def pieces(prompt: str) -> list[Any]:
    """A prompt cut at its markers, with what is JSON parsed."""
    for marker in ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<|im_end|>"):
        prompt = prompt.replace(marker, f"\0{marker}\0")
    return [_parsed(line) for part in prompt.split("\0") for line in part.split("\n")]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return line
