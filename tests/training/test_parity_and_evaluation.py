"""The gate between a trained adapter and its publication, and the figures that go with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from corral.datasets import edge_ai
from corral.registry import manifest
from tests.training.conftest import FOLIO, HELD_OUT, MODEL, run_stage
from token_rows import TokenRows


@pytest.fixture(scope="module")
def made(
    train_file: Path, llama_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """An adapter of a few epochs over forty rows, and what its stage said."""
    out = tmp_path_factory.mktemp("made") / "a.gguf"
    options = ["--model", MODEL, "--file", train_file, "--out", out, "--epochs", 4]
    options += ["--llama-source", llama_source, "--rank", 8, "--name", "tuned"]
    return out, run_stage("finetune_lora.py", *options)


def parity(
    made: tuple[Path, dict[str, Any]], train_file: Path, status: int = 0, **other: Path
) -> dict[str, Any]:
    out, result = made
    options = {
        "model": MODEL, "adapter": out, "rows": out.with_suffix(".work") / "rows", "file": train_file,
        "checkpoint": Path(result["adapter"]), "sample": 12,
    } | other  # fmt: skip
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run_stage("check_parity.py", *given, status=status)


def test_what_was_trained_is_what_is_served(
    made: tuple[Path, dict[str, Any]], train_file: Path
) -> None:
    found = parity(made, train_file)
    assert (found["rows"], found["turns"], found["prompts_counted"]) == (12, 12, 3)
    assert found["tensors"] == 70
    assert found["adapter_effect"] > 0.1
    assert found["difference_from_training"] < 0.05


def test_answers_that_are_calls_of_tools_are_compared(llama_source: Path, tmp_path: Path) -> None:
    """Two learned turns in a row, both calls: llama-server must not go on from the last one."""
    file, out = tmp_path / "tools.jsonl", tmp_path / "tools.gguf"
    with file.open("w", encoding="utf-8") as rows:
        for number, word in enumerate(("Herds", "Llamas", "Corrals", "Pastures") * 2):
            record = {"title": f"{word} {number}", "source": "AIModel", "instanceTypeId": "text"}
            ids = edge_ai.random_ids(Random(number))
            row = edge_ai.chat_row("S", f"Catalog {word} {number}.", record, ids)
            rows.write(json.dumps(row) + "\n")
    options = ["--model", MODEL, "--file", file, "--out", out, "--epochs", 4, "--rank", 8]
    result = run_stage("finetune_lora.py", *options, "--llama-source", llama_source)
    found = parity((out, result), file)
    assert (found["rows"], found["turns"]) == (8, 16)


def test_another_template_is_found(
    made: tuple[Path, dict[str, Any]], train_file: Path, tmp_path: Path
) -> None:
    """The same weights with a template that begins the answer with a blank."""
    from gguf import GGUFReader

    text = GGUFReader(MODEL).fields["tokenizer.chat_template"].contents()
    wrong = text.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n ")
    assert wrong != text
    (tmp_path / "wrong.jinja").write_text(wrong)
    model = tmp_path / "wrong.gguf"
    tool = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", str(MODEL), str(model)]
    subprocess.run(
        [*tool, "--force", "--chat-template-file", str(tmp_path / "wrong.jinja")],
        check=True, capture_output=True,
    )  # fmt: skip
    said = parity(made, train_file, status=3, model=model)["error"]
    assert "train.jsonl:1: prompts differ from token" in said
    assert "training used [" in said


def test_other_rows_are_found(
    made: tuple[Path, dict[str, Any]], train_file: Path, tmp_path: Path
) -> None:
    """An answer that changed after rendering is not what was learned."""
    rows = [json.loads(line) for line in train_file.read_text().splitlines()]
    rows[0]["messages"][-1]["content"] += " "
    changed = tmp_path / "changed.jsonl"
    changed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = parity(made, train_file, status=3, file=changed)["error"]
    assert "changed.jsonl:1: training learned the answer" in said


def test_an_end_that_was_not_learned_is_found(
    made: tuple[Path, dict[str, Any]], train_file: Path, tmp_path: Path
) -> None:
    import numpy as np

    rows = tmp_path / "rows"
    shutil.copytree(made[0].with_suffix(".work") / "rows", rows)
    tokens = np.fromfile(rows / "tokens.bin", "<i4")
    last = TokenRows(rows)[0].learned.nonzero()[0][-1]
    tokens[last] = ~tokens[last]
    tokens.tofile(rows / "tokens.bin")
    said = parity(made, train_file, status=3, rows=rows)["error"]
    assert "does not end generation" in said


def test_an_adapter_that_was_not_converted_whole_is_found(
    made: tuple[Path, dict[str, Any]], train_file: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "ckpt"
    shutil.copytree(made[1]["adapter"], folder)
    weights = load_file(folder / "adapter_model.safetensors")
    weights[next(iter(weights))][0, 0] += 1
    save_file(weights, folder / "adapter_model.safetensors")
    said = parity(made, train_file, status=3, checkpoint=folder)["error"]
    assert "the conversion lost something" in said


def test_an_adapter_of_nothing_is_found(
    train_file: Path, token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.gguf"
    options = ["--model", MODEL, "--rows", token_rows, "--out", out, "--llama-source", llama_source]
    result = run_stage("finetune_lora.py", *options, "--epochs", 1, "--rate", 1e-12, "--rank", 4)
    given = ["--model", MODEL, "--adapter", out, "--rows", token_rows, "--file", train_file]
    said = run_stage("check_parity.py", *given, "--checkpoint", result["adapter"], status=3)
    assert "the adapter changes nothing" in said["error"]


def test_tuned_against_base(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A few steps move the loss; what the bundled adapter has learned shows in the fields as well."""
    out, result = made
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    described = shutil.copy(out.parent / "tuned.manifest.json", tmp_path)
    found = run_stage(
        "evaluate.py", "--variant", f"base={MODEL}", "--variant", f"tuned={MODEL}+{out}",
        "--variant", f"bundled={MODEL}+{FOLIO}", "--file", HELD_OUT, "--rows", 12, "--max-tokens", 400,
        "--loss", "--html", page, "--out", figures, "--metrics", result["metrics"],
        "--manifest", described,
    )  # fmt: skip
    base, tuned, bundled = found["models"]
    assert (base["model"], tuned["model"], tuned["rows"]) == ("base", "tuned", 12)
    assert bundled["loss"] < tuned["loss"] < base["loss"]
    assert bundled["field_f1"] > base["field_f1"]
    compared = {(gain["model"], gain["against"]): gain["field_f1"] for gain in found["gains"]}
    assert compared.keys() == {("tuned", "base"), ("bundled", "base"), ("bundled", "tuned")}
    assert compared["bundled", "base"]["sure"]
    low, high = compared["bundled", "base"]["interval"]
    assert 0 < low <= compared["bundled", "base"]["gain"] <= high
    assert json.loads(figures.read_text()) == found
    text = page.read_text()
    assert "polyline" in text
    assert "http" not in text.split("<h2>Worst")[0]
    kept = manifest.read(Path(described)).metrics
    assert kept["evaluation"]["models"][1]["exact"] == tuned["exact"]
    assert kept["training"]["steps"] == result["steps"]


def test_too_few_right_answers_are_a_status_of_three(
    made: tuple[Path, dict[str, Any]],
) -> None:
    options = ["--variant", f"base={MODEL}", "--file", HELD_OUT, "--rows", 2, "--max-tokens", 20]
    said = run_stage("evaluate.py", *options, "--min-exact", 0.9, status=3)
    assert "base: 0.0% right, --min-exact asks for 90.0%" in said["error"]
