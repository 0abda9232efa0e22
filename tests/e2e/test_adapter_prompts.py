"""What one adapter has read is never taken for what another one, or the base, would have read.

llama-server keeps past prompts in memory by their tokens alone: with that on, this test got an answer
that neither model gives.
"""

import json
import urllib.request

import pytest

from tests.e2e.corral_process import CorralProcess

ONE_SLOT = {"CORRAL_SLOTS": "1"}


def prompt(word: str) -> str:
    return f"{word} record field value title maker colour size price shelf branch " * 20


def answer(corral: CorralProcess, model: str, text: str) -> str:
    body = {"model": model, "prompt": text, "max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(
        corral.root + "/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answered:
        said: str = json.load(answered)["choices"][0]["text"]
        return said


def test_the_base_does_not_go_on_with_an_adapters_prompt(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    asked = prompt("novel") + "copy"
    with CorralProcess(tmp_path_factory.mktemp("alone"), environment=ONE_SLOT) as alone:
        base = answer(alone, "corral-tiny", asked)
    with CorralProcess(tmp_path_factory.mktemp("mixed"), environment=ONE_SLOT) as mixed:
        answer(mixed, "corral-tiny-folio", prompt("novel"))
        answer(mixed, "corral-tiny-folio", "Some other text. " + prompt("atlas"))
        answer(mixed, "corral-tiny", "And a third one: " + prompt("score"))
        assert answer(mixed, "corral-tiny", asked) == base
