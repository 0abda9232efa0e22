"""The engines beside PEFT: llama.cpp's own trainer, MLX on its CPU build, Unsloth's refusals."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from gguf import GGUFReader

from corral import settings
from corral.registry import manifest
from step_metrics import curve, read
from tests.training.conftest import MODEL, ROOT, argv, run_stage

# mlx-lm beside the train group, in an environment of its own; on a Mac the project's own has it.
MLX_PYTHON = ROOT / "build" / "mlx" / "bin" / "python"


def test_llama_cpp_trains_every_weight_on_text(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    line = "The quick brown fox jumps over the lazy dog near the river bank. "
    text.write_text("".join(json.dumps({"text": line * 8}) + "\n" for _ in range(12)))
    out = tmp_path / "full.gguf"
    options = ["--engine", "llama.cpp", "--model", MODEL, "--file", text, "--out", out]
    result = run_stage(
        "finetune_lora.py", *options, "--epochs", 2, "--rate", 1e-4, "--name", "full"
    )
    losses = [loss for _, loss in curve(Path(result["metrics"]), "train_loss")]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert manifest.read(tmp_path / "full.manifest.json").kind == "base"
    again = ("--base", MODEL, "--model", out, "--work", tmp_path / "full.work")
    checked = run_stage("check_text_parity.py", *again)
    assert checked["effect"] > 0.01
    assert "training changed nothing" in other_model(*again, model=MODEL)
    assert "serving gives" in other_model(*again, model=changed(out, tmp_path / "changed.gguf"))
    found = run_stage(
        "evaluate.py", "--variant", f"full={out}", "--file", _chat(tmp_path), "--max-tokens", 5
    )
    assert found["rows"] == 1


def other_model(*arguments: object, model: Path) -> str:
    """What the check says of another model than the one that was trained."""
    return str(run_stage("check_text_parity.py", *arguments, "--model", model, status=3)["error"])


def changed(model: Path, path: Path) -> Path:
    """The same model, its output a little louder."""
    shutil.copyfile(model, path)
    tensors = GGUFReader(path, "r+").tensors
    next(each for each in tensors if each.name == "output_norm.weight").data[:] *= 1.2
    return path


def _chat(folder: Path) -> Path:
    path = folder / "chat.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    return path


def test_llama_cpp_refuses_what_it_cannot_learn(tmp_path: Path, train_file: Path) -> None:
    out = tmp_path / "a.gguf"
    options = ["--engine", "llama.cpp", "--model", MODEL, "--out", out]
    said = run_stage("finetune_lora.py", *options, "--file", train_file, status=1)
    assert "learns raw text" in said["error"]
    dpo = run_stage("finetune_lora.py", *options, "--file", train_file, "--method", "dpo", status=1)
    assert "has no dpo" in dpo["error"]


def test_unsloth_says_what_it_needs(token_rows: Path, tmp_path: Path) -> None:
    options = ["--engine", "unsloth", "--model", MODEL, "--rows", token_rows]
    said = run_stage("finetune_lora.py", *options, "--out", tmp_path / "a.gguf", status=1)
    assert "needs an NVIDIA GPU and the unsloth package" in said["error"]


@pytest.mark.skipif(
    not MLX_PYTHON.exists(), reason="no build/mlx: an environment with mlx[cpu] and mlx-lm"
)
def test_mlx_learns_the_same_rows(
    token_rows: Path, train_file: Path, llama_source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.gguf"
    command = argv("finetune_lora.py", "--engine", "mlx", "--model", MODEL, "--rows", token_rows)
    command += ["--out", str(out), "--llama-source", str(llama_source), "--rank", "8"]
    command += ["--epochs", "2", "--batch-size", "8", "--valid-token-rows", str(token_rows)]
    environment = settings.child_environment({"PYTHONPATH": str(ROOT / "server")})
    done = subprocess.run(
        [str(MLX_PYTHON), *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert [int(row["step"]) for row in read(Path(result["metrics"]))] == list(range(1, 11))
    valid = curve(Path(result["metrics"]), "valid_loss")
    assert valid[-1][1] < 0.9 * valid[0][1]
    given = ["--model", MODEL, "--adapter", out, "--rows", token_rows, "--file", train_file]
    found = run_stage("check_parity.py", *given, "--sample", 3, "--checkpoint", result["adapter"])
    assert found["turns"] == 3
    assert found["difference_from_training"] < 0.01
    files = {path.name for path in Path(result["adapter"]).iterdir()}
    assert files >= {"adapter_model.safetensors", "adapter_config.json", "metrics.json"}
