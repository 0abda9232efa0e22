"""Tokens and learned parts as the bundled model has them, by a real llama-server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import settings
from corral.datasets.rendering import Renderer
from corral.datasets.rows import Message, Row, ToolCall
from corral.datasets.template_server import Request, TemplateServer
from corral.datasets.tokenizer import Tokenizer
from corral.errors import InvalidData, InvalidModel

CORPUS = Path(__file__).parents[1] / "data" / "datasets"
DEFAULTS = settings.Settings()
MODEL = DEFAULTS.bundled_models_dir / "corral-tiny.gguf"
SERVER = DEFAULTS.llama_bin_dir / "llama-server"
TOOL = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[TemplateServer]:
    with TemplateServer(MODEL, SERVER) as process:
        yield process


@pytest.fixture(scope="module")
def tokens() -> Iterator[Tokenizer]:
    with Tokenizer(MODEL, DEFAULTS.llama_bin_dir) as tokenizer:
        yield tokenizer


def test_the_tokenizer_is_the_servers(server: TemplateServer, tokens: Tokenizer) -> None:
    texts = [
        json.loads(line).get("text", "")
        for line in (CORPUS / "mlx-text.jsonl").read_bytes().splitlines()
    ]
    texts += [
        "",
        " ",
        "\n\n",
        "<|im_start|>user\nhi<|im_end|>\n",
        "e\u0301é🦙\u2028",
        "  two  spaces ",
        "<tool_call>{}</tool_call>",
    ]
    for text in texts:
        for special in (True, False):
            body = {"content": text, "add_special": special, "parse_special": True}
            status, answer = server.ask("POST", "/tokenize", json.dumps(body).encode())
            assert status == 200
            assert tokens.encode(text, special=special) == answer["tokens"]


def test_what_is_learned_is_the_answer_and_its_end(
    server: TemplateServer, tokens: Tokenizer
) -> None:
    row = Row(
        "chat",
        messages=(
            Message("system", "Be brief."),
            Message("user", "find é"),
            Message("assistant", "not this", weight=0),
            Message("user", "again"),
            Message("assistant", None, (ToolCall("search", '{"q":"é"}', "c1"),)),
            Message("tool", "[1]", tool_call_id="c1"),
            Message("assistant", "one"),
        ),
        tools=[TOOL],
    )
    [example] = Renderer(server, tokens).render(row)
    learned = [b"".join(map(tokens.piece, example.tokens[a:b])).decode() for a, b in example.spans]
    # llama.cpp gives this template arguments as objects, here and when it serves.
    assert [text.strip() for text in learned] == [
        '<tool_call>{"name": "search", "arguments": {"q": "é"}}</tool_call><|im_end|>',
        "one<|im_end|>",
    ]
    prompt = server.render([Request([{"role": "user", "content": "x"}], None, True)])[0]
    assert prompt.endswith("<|im_start|>assistant\n")


def test_a_conversation_that_the_template_refuses_is_an_error(server: TemplateServer) -> None:
    with pytest.raises(InvalidData, match="refuses"):
        server.render([Request([{"role": "user"}])])


def test_a_file_that_is_no_model_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF nonsense")
    with pytest.raises(InvalidModel, match="cannot read the vocabulary"):
        Tokenizer(path, DEFAULTS.llama_bin_dir)
    with (
        pytest.raises(InvalidModel, match="could not open the model"),
        TemplateServer(path, SERVER),
    ):
        pass


def test_count_show_and_check_by_name_of_a_model(tmp_path: Path) -> None:
    def corral(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            "from corral.cli import main; main()",
            "data",
            *map(str, arguments),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    counted = json.loads(
        corral("count", CORPUS / "sharegpt.jsonl", "--model", MODEL, "--json").stdout
    )
    assert counted["counts"]["rows"] == 5
    assert 0 < counted["counts"]["trained_tokens"] < counted["counts"]["tokens"]
    assert counted["estimate"]["epochs"] == 20
    shown = corral(
        "show", CORPUS / "sharegpt.jsonl", "--rows", "1", "--model", "corral-tiny"
    ).stdout
    assert "<|im_start|>assistant\n»hello<|im_end|>«" in shown
    page = tmp_path / "page.html"
    corral("count", CORPUS / "alpaca.jsonl", "--model", MODEL, "--html", page)
    assert "<svg" in page.read_text()
    done = json.loads(
        corral(
            "check", CORPUS / "alpaca.jsonl", "--model", MODEL, "--context", "12", "--json"
        ).stdout
    )
    assert done["totals"]["warning"]["too_long"] >= 4
