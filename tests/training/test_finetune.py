"""Training as a stage: resume bit for bit, kills, checkpoints, failures, DPO, and what is published of it."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from corral import settings
from corral.registry import manifest
from corral.registry.gguf_header import read_header
from step_metrics import curve, read
from tests.training.conftest import MODEL, ROOT, argv, run_stage

ADAPTER = "adapter_model.safetensors"
NAME = "ft:corral-tiny:local::t"
# At this rate fifteen steps learn enough to be seen, however hard the rows of the first one are.
FAST = ["--batch-size", 8, "--rank", 8, "--checkpoint-seconds", 0, "--valid-every", 5, "--rate", "4e-3"]  # fmt: skip


def environment() -> dict[str, str]:
    return settings.child_environment({"PYTHONPATH": str(ROOT / "server")})


def finetune(rows: Path, out: Path, source: Path, *more: object, status: int = 0) -> dict[str, Any]:
    options = ["--model", MODEL, "--rows", rows, "--out", out, "--llama-source", source, *FAST]
    return run_stage("finetune_lora.py", *options, *more, status=status)


def last_adapter(out: Path) -> bytes:
    folders = sorted(out.with_suffix(".work").glob("ckpt-step-*"), key=lambda p: int(p.name[10:]))
    return (folders[-1] / ADAPTER).read_bytes()


@pytest.fixture(scope="module")
def trained(
    token_rows: Path, llama_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Three epochs of five steps, undisturbed, with dropout so that the random state counts."""
    out = tmp_path_factory.mktemp("undisturbed") / "a.gguf"
    more = ["--epochs", 3, "--dropout", 0.1, "--name", NAME, "--checkpoints"]
    return out, finetune(token_rows, out, llama_source, *more, "--valid-token-rows", token_rows)


def test_it_learns_and_says_so(trained: tuple[Path, dict[str, Any]]) -> None:
    out, result = trained
    metrics = Path(result["metrics"])
    assert [int(row["step"]) for row in read(metrics)] == list(range(1, 16))
    valid = curve(metrics, "valid_loss")
    assert [step for step, _ in valid] == [5, 10, 15]
    assert valid[-1][1] < 0.5 * curve(metrics, "train_loss")[0][1]
    assert result["learned_tokens"] < result["tokens"]
    assert out.stat().st_size > 100_000


def test_checkpoints_are_published_each_epoch(trained: tuple[Path, dict[str, Any]]) -> None:
    out, result = trained
    assert [each["step"] for each in result["checkpoints"]] == [5, 10, 15]
    assert result["checkpoints"][-1]["metrics"].keys() >= {
        "train_loss", "valid_loss", "full_valid_loss", "full_valid_mean_token_accuracy"
    }  # fmt: skip
    found = {m.name: m for m in map(manifest.read, out.parent.glob("*.manifest.json"))}
    assert set(found) == {NAME, f"{NAME}:ckpt-step-5", f"{NAME}:ckpt-step-10"}
    assert found[NAME].files[0].name == "a.gguf"
    for each in found.values():
        says = read_header(out.parent / each.files[0].name).metadata
        assert says["general.name"] == each.name
        assert says["general.base_model.0.name"] == "corral-tiny"
        assert not {"general.version", "general.basename", "general.finetune"} & set(says)
        assert (out.parent / each.files[0].name).stat().st_size == each.files[0].bytes
        assert each.kind == "adapter"


def wait_for_step(metrics: Path, step: int, child: subprocess.Popen[bytes]) -> None:
    """Until the metrics file has the step."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if metrics.exists() and any(int(row["step"]) >= step for row in read(metrics)):
            return
        assert child.poll() is None, "training ended before it was disturbed"
        time.sleep(0.02)
    raise AssertionError(f"no step {step}")


@pytest.mark.parametrize(
    ("number", "steps"), [(signal.SIGTERM, (3,)), (signal.SIGKILL, (2, 7, 12))]
)
def test_disturbed_runs_end_with_the_same_weights(
    number: signal.Signals,
    steps: tuple[int, ...],
    trained: tuple[Path, dict[str, Any]],
    token_rows: Path,
    llama_source: Path,
    tmp_path: Path,
) -> None:
    out, whole = tmp_path / "a.gguf", trained[0]
    more = ["--epochs", 3, "--dropout", 0.1, "--valid-token-rows", token_rows, "--name", NAME]
    options = ["--model", MODEL, "--rows", token_rows, "--out", out, "--llama-source", llama_source]
    for step in steps:
        child = subprocess.Popen(
            argv("finetune_lora.py", *options, *FAST, *more), env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        wait_for_step(out.with_suffix(".work") / "metrics.csv", step, child)
        child.send_signal(number)
        _, said = child.communicate(timeout=120)
        assert child.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        assert (b"error: stopped after step" in said) == (number == signal.SIGTERM)
        assert not out.exists()
    result = finetune(token_rows, out, llama_source, *more)
    assert last_adapter(out) == last_adapter(whole)
    assert out.read_bytes() == whole.read_bytes()
    undisturbed = Path(trained[1]["metrics"]).read_text()
    assert Path(result["metrics"]).read_text() == undisturbed
    assert result["tokens"] == trained[1]["tokens"]


KILLED_IN_A_CHECKPOINT = """
import os, signal, sys
sys.path[:0] = [{scripts!r}]
import safe_files
written = 0
real = os.fsync
def fsync(handle):
    # The third checkpoint is on the disk, or half of it, and has not its name yet.
    global written
    written += 1
    if written == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(handle)
os.fsync = fsync
sys.argv = ["finetune_lora.py", *sys.argv[1:]]
import runpy
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("nth", [13, 17, 21])
def test_a_kill_inside_a_checkpoint(
    nth: int,
    trained: tuple[Path, dict[str, Any]],
    token_rows: Path,
    llama_source: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "a.gguf"
    program = KILLED_IN_A_CHECKPOINT.format(
        scripts=str(ROOT / "scripts"), script=str(ROOT / "scripts" / "finetune_lora.py"), nth=nth
    )
    options = ["--model", MODEL, "--rows", token_rows, "--out", out, "--llama-source", llama_source]
    more = ["--epochs", 3, "--dropout", 0.1, "--valid-token-rows", token_rows]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, [*options, *FAST, *more])],
        env=environment(), capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    finetune(token_rows, out, llama_source, *more)
    assert last_adapter(out) == last_adapter(trained[0])
    assert not list(out.parent.rglob("*.part"))


def test_a_work_folder_of_other_settings_is_refused(
    trained: tuple[Path, dict[str, Any]], token_rows: Path, llama_source: Path
) -> None:
    said = finetune(token_rows, trained[0], llama_source, "--epochs", 2, status=2)
    assert "belongs to another training: " in said["error"]
    assert "epochs (3.0 there, 2.0 now)" in said["error"]


def test_micro_batches_do_not_change_the_result(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    """The same step in parts: equal but for the order of sums."""
    losses = []
    for micro in (100_000, 700):
        out = tmp_path / f"{micro}.gguf"
        more = ["--epochs", 1, "--precision", "fp32", "--micro-tokens", micro]
        result = finetune(token_rows, out, llama_source, *more)
        losses.append([loss for _, loss in curve(Path(result["metrics"]), "train_loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_gradient_checkpointing_does_not_change_the_result(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    losses = []
    for switch in ("on", "off"):
        out = tmp_path / f"{switch}.gguf"
        more = ["--epochs", 1, "--precision", "fp32", "--gradient-checkpointing", switch]
        result = finetune(token_rows, out, llama_source, *more)
        losses.append([loss for _, loss in curve(Path(result["metrics"]), "train_loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_loss_that_is_no_number_leaves_nothing(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.gguf"
    more = [
        "--epochs",
        3,
        "--rate",
        10,
        "--alpha",
        100_000,
        "--clip",
        1e30,
        "--warmup",
        0,
        "--name",
        "x",
    ]
    said = finetune(token_rows, out, llama_source, *more, status=1)
    assert "learning rate multiplier" in said["error"]
    assert not out.exists()
    assert not list(tmp_path.glob("*.manifest.json"))


def test_too_little_memory_says_what_to_lower(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    options = ["--model", MODEL, "--rows", token_rows, "--out", tmp_path / "a.gguf"]
    options += ["--llama-source", llama_source, "--batch-size", 40, "--micro-tokens", 100_000]
    options += ["--gradient-checkpointing", "off", "--precision", "fp32"]

    def little() -> None:
        # Enough to load torch and the model, not for 40 rows at once.
        resource.setrlimit(resource.RLIMIT_DATA, (1_000_000_000, 1_000_000_000))

    done = subprocess.run(
        argv("finetune_lora.py", *options), env=environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, preexec_fn=little, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: out of memory on cpu" in done.stderr
    assert "--micro-tokens" in done.stderr
    assert not (tmp_path / "a.gguf").exists()


def test_dpo_widens_the_margin(pair_file: Path, llama_source: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    options = ["--model", MODEL, "--file", pair_file, "--out", out, "--llama-source", llama_source]
    options += ["--method", "dpo", "--epochs", 4, "--batch-size", 4, "--rank", 8]
    result = run_stage("finetune_lora.py", *options)
    losses = [loss for _, loss in curve(Path(result["metrics"]), "train_loss")]
    assert losses[0] == pytest.approx(0.6931, abs=0.05)
    assert sum(losses[-4:]) / 4 < 0.6
    assert curve(Path(result["metrics"]), "train_accuracy")[-1][1] >= 0.75
    assert out.is_file()


def test_preferences_are_not_trained_as_chats(
    pair_file: Path, llama_source: Path, tmp_path: Path
) -> None:
    options = ["--model", MODEL, "--file", pair_file, "--out", tmp_path / "a.gguf"]
    said = run_stage("finetune_lora.py", *options, "--llama-source", llama_source, status=1)
    assert "method supervised trains on chat rows" in said["error"]


def test_layers_that_are_not_there_are_refused(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.gguf"
    said = finetune(token_rows, out, llama_source, "--targets", "qkv_proj", status=2)
    assert "its linear layers: down_proj, gate_proj" in said["error"]


def test_events_tell_a_worker(token_rows: Path, llama_source: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    out = tmp_path / "a.gguf"
    options = ["--model", MODEL, "--rows", token_rows, "--out", out, "--llama-source", llama_source]
    done = subprocess.run(
        argv("finetune_lora.py", *options, *FAST, "--epochs", 1, "--events", events),
        env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in events.read_text().splitlines()]
    assert [e["data"]["steps"] for e in said if e["type"] == "result"] == [5]
    assert any(e["type"] == "message" and e["text"].startswith("Step ") for e in said)
    steps = [e["done"] for e in said if e["type"] == "progress" and e["unit"] == "steps"]
    assert steps[-1] == 5


def test_a_full_disk_is_said_and_nothing_is_half(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    """The disk is full from the fifteenth write on; with room again the training goes on."""
    program = (
        "import errno, os, runpy, sys\n"
        f"sys.path[:0] = [{str(ROOT / 'scripts')!r}]\n"
        "real, written = os.fsync, 0\n"
        "def full(handle):\n"
        "    global written\n"
        "    written += 1\n"
        "    if written > 14:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(handle)\n"
        "os.fsync = full\n"
        "sys.argv = ['finetune_lora.py', *sys.argv[1:]]\n"
        f"runpy.run_path({str(ROOT / 'scripts' / 'finetune_lora.py')!r}, run_name='__main__')\n"
    )
    out = tmp_path / "a.gguf"
    options = ["--model", MODEL, "--rows", token_rows, "--out", out, "--llama-source", llama_source]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, [*options, *FAST, "--epochs", 2])],
        env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "error: no space left while writing" in done.stderr
    assert not out.exists()
    finetune(token_rows, out, llama_source, "--epochs", 2)
    assert out.is_file()
