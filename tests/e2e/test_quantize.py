"""Quantise and measure the bundled model with the real programs; what is refused, and how."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import plain_markers
from corral.datasets.tokenizer import Tokenizer
from corral.registry.gguf_header import read_header
from corral.settings import Settings, load
from tests.e2e.corral_process import ENVIRONMENT, child_environment, corral_argv

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = Path(ENVIRONMENT.get("CORRAL_BUNDLED_MODELS_DIR", Settings().bundled_models_dir))
LLAMA = load().llama_bin_dir
MODEL = BUNDLED / "corral-tiny.gguf"
TYPES = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "IQ4_XS")
FIGURES = {
    "sha256", "bytes", "kld_mean", "ppl", "ppl_ratio", "tokens_per_second", "fallback_share", "gate",
}  # fmt: skip
QUICK = ("--chunks", "8")


def script(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "scripts" / "quantize_gguf.py"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, env=child_environment(), **options)


def quantize(out: Path, *more: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return script("--model", MODEL, "--out", out, "--threads", 1, *more, **options)


def corral(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*corral_argv(*arguments)], capture_output=True, text=True, env=child_environment()
    )


def test_five_types_are_measured_passed_and_registered(tmp_path: Path) -> None:
    page, data = tmp_path / "page.html", str(tmp_path / "data")
    given = ("--html", str(page), "--data-dir", data, "--json", *QUICK)
    done = corral("models", "quantize", "corral-tiny", *TYPES, *given)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = {row["type"]: row for row in result["types"]}
    assert tuple(rows) == TYPES
    assert result["registered"] == sorted(f"corral-tiny-{kind}" for kind in TYPES)
    assert all(set(row) >= FIGURES and row["gate"]["passed"] for row in rows.values())
    # Fewer bits lose more; the sizes are those of the format, whatever the weights.
    assert rows["F16"]["kld_mean"] < rows["Q8_0"]["kld_mean"] < rows["Q4_K_M"]["kld_mean"]
    assert rows["F16"]["bytes"] > rows["Q8_0"]["bytes"] > rows["Q4_K_M"]["bytes"]
    assert all(row["fallback_share"] == 0 for row in rows.values())
    assert page.read_text().count("<circle") == len(TYPES)
    shown = corral("models", "show", "corral-tiny-Q8_0", "--json", "--data-dir", data)
    kept = json.loads(shown.stdout)["manifest"]["metrics"]["measure"]
    assert kept["kld_mean"] == rows["Q8_0"]["kld_mean"]


def test_llama_perplexity_sees_the_tokens_that_serving_sees(tmp_path: Path) -> None:
    """Role markers whole, though llama.cpp calls the end of a turn a control token by its name."""
    chat = "<|im_start|>user\nGröße?<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    copy, markers = plain_markers.copy(MODEL, tmp_path)
    with Tokenizer(MODEL, LLAMA) as tokenizer:
        served = tokenizer.encode(chat)
    argv = [str(LLAMA / "llama-tokenize"), "-m", str(copy), "--ids", "--no-parse-special"]
    argv += ["--log-disable", "-p", plain_markers.plain(chat, markers)]
    said = subprocess.run(argv, capture_output=True, text=True, env=child_environment()).stdout
    assert json.loads(said[said.index("[") :]) == served


def test_a_bar_that_is_not_reached_registers_nothing(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    given = ("--max-kld", "0", "--imatrix", "none", "--no-bench", "--data-dir", data, *QUICK)
    done = corral("models", "quantize", "corral-tiny", "Q8_0", "Q4_K_M", *given)
    assert done.returncode == 3
    assert "refused, nothing is registered: Q8_0: KL divergence" in done.stderr
    listed = json.loads(corral("models", "ls", "--json", "--data-dir", data).stdout)
    assert not [m for m in listed["models"] if m["name"].startswith("corral-tiny-Q")]


def test_the_default_bar_refuses_two_bits(tmp_path: Path) -> None:
    given = ("--no-bench", "--data-dir", str(tmp_path), *QUICK)
    done = corral("models", "quantize", "corral-tiny", "Q2_K", *given)
    assert done.returncode == 3, done.stderr
    assert "is over 0.05" in done.stderr


def test_an_unknown_type_names_near_ones(tmp_path: Path) -> None:
    done = quantize(tmp_path, "Q4_K_X")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown quantisation type `Q4_K_X`; did you mean `Q4_K")


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    there = tmp_path / "corral-tiny-Q8_0.gguf"
    there.write_text("mine")
    done = quantize(tmp_path, "--imatrix", "none", "Q8_0")
    assert done.stderr == f"error: {there} exists already; give --replace or another --out\n"
    assert there.read_text() == "mine"


@pytest.mark.parametrize(("kept", "said"), [(None, "is missing"), (5000, "corrupt or truncated")])
def test_a_model_that_is_missing_or_cut_short(tmp_path: Path, kept: int | None, said: str) -> None:
    model = tmp_path / "m.gguf"
    if kept:
        model.write_bytes(MODEL.read_bytes()[:kept])
    done = script("--model", model, "--out", tmp_path / "out", "Q8_0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: model file {model} ")
    assert said in done.stderr


def test_a_type_that_needs_an_importance_matrix(tmp_path: Path) -> None:
    done = quantize(tmp_path, "--imatrix", "none", "IQ2_XXS")
    assert done.stderr == (
        "error: IQ2_XXS cannot be made without an importance matrix; leave out `--imatrix none`\n"
    )


def test_an_importance_matrix_of_another_model(tmp_path: Path) -> None:
    import numpy
    from gguf import GGUFWriter

    imatrix = tmp_path / "other.gguf"
    writer = GGUFWriter(imatrix, "llama")
    writer.add_type("imatrix")
    writer.add_tensor("blk.30.attn_q.weight.in_sum2", numpy.ones((1, 4096), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = quantize(tmp_path, "--imatrix", imatrix, "Q4_K_M")
    assert done.stderr == (
        f"error: the importance matrix {imatrix} is of another model: it knows "
        "`blk.30.attn_q.weight`, which the model has not. Make one of corral-tiny.gguf (leave "
        "--imatrix out), or give its own\n"
    )


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def small_files() -> None:
        # Writing on gives an error, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = quantize(tmp_path / "out", "--imatrix", "none", "Q8_0", preexec_fn=small_files)
    assert done.returncode == 1
    assert "llama-quantize failed" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kill_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    argv = [sys.executable, ROOT / "scripts" / "quantize_gguf.py", "--model", MODEL]
    argv += ["--out", tmp_path, "--imatrix", "none", "--threads", "1", "Q6_K"]
    child = subprocess.Popen(list(map(str, argv)), env=child_environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    part = tmp_path / "corral-tiny-Q6_K.part"
    while not part.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.kill()
    child.communicate()
    final = tmp_path / "corral-tiny-Q6_K.gguf"
    if final.exists():  # it was quicker than the kill: then it is whole
        read_header(final)
    done = quantize(tmp_path, "--imatrix", "none", "--replace", "Q6_K")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "corral-tiny-Q6_K.gguf", "corral-tiny-Q6_K.manifest.json",
    }  # fmt: skip
