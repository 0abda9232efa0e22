"""The Modelfile: Go templates that say what the Jinja says, stops, parameters.

`tests/data/ollama/rendered.json` holds what Go's text/template made of each template and conversation
(`go run tests/data/ollama/render.go TEMPLATE < tests/data/ollama/conversations.json`), with the
template's checksum: after a change it must be rendered anew. tests/e2e/test_export.py compares
those texts with llama-server's own.
"""

import hashlib
import json
from pathlib import Path

import pytest

import ollama_modelfile
from ollama_modelfile import CHATML, CORRAL, PLAIN_CHATML, chatml, known_template, modelfile

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data" / "ollama"
CONVERSATIONS = json.loads((DATA / "conversations.json").read_text(encoding="utf-8"))
RENDERED = json.loads((DATA / "rendered.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "text"), [("corral", CORRAL), ("chatml", CHATML)])
def test_the_templates_are_those_that_go_has_rendered(name: str, text: str) -> None:
    assert hashlib.sha256(text.encode()).hexdigest() == RENDERED[name]["template_sha256"]
    assert len(RENDERED[name]["texts"]) == len(CONVERSATIONS)


def test_go_renders_the_plain_template_as_plain_chatml() -> None:
    expected = [chatml(conversation["messages"]) for conversation in CONVERSATIONS]
    assert RENDERED["chatml"]["texts"] == expected


def test_the_bundled_chat_template_has_its_go_template() -> None:
    jinja = (ROOT / "models" / "chat_template.jinja").read_text(encoding="utf-8")
    found = known_template(jinja)
    assert found is not None
    assert found.text == CORRAL
    assert known_template(jinja + "{{ 'more' }}") is None


def test_ollama_finds_how_a_tool_call_begins() -> None:
    """It looks for `if .ToolCalls` and takes the text before the first brace."""
    _, _, inside = CORRAL.partition("{{ if .ToolCalls }}")
    assert inside.startswith("{{ range .ToolCalls }}<tool_call>{")


def test_a_whole_modelfile() -> None:
    text = modelfile(
        "m-Q8_0.gguf",
        PLAIN_CHATML,
        {"temperature": 0.0, "top_p": 0.9, "max_tokens": 512, "logit_bias": "x"},
        context=4096,
        adapter="m-adapter.gguf",
        licence="Apache-2.0",
    )
    assert text == (
        "FROM ./m-Q8_0.gguf\n"
        "ADAPTER ./m-adapter.gguf\n"
        f'TEMPLATE """{CHATML}"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|im_start|>"\n'
        "PARAMETER num_ctx 4096\n"
        "PARAMETER num_predict 512\n"
        "PARAMETER temperature 0.0\n"
        "PARAMETER top_p 0.9\n"
        'LICENSE """Apache-2.0"""\n'
    )


def test_an_unknown_template_is_left_to_ollama() -> None:
    assert modelfile("m.gguf", None, {}) == "FROM ./m.gguf\n"


def test_no_template_ends_its_own_quotation() -> None:
    assert all('"""' not in kept.text for kept in ollama_modelfile.KNOWN.values())
