"""What training keeps beside weights: step metrics, the work folder's owner, errors; and llama-finetune's output."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from corral.errors import BadRequest, InvalidData, ToolError
from engines import Stopped, get
from engines.failures import Diverged, OutOfMemory, check_finite, explained
from engines.llama_engine import (
    Follower,
    check_length,
    read_progress,
    take_weights,
    text_of,
    windows_of,
)
from engines.work_folder import claim
from step_metrics import COLUMNS, MetricsFile, curve, read


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.progressed: list[tuple[float, float | None]] = []
        self.said: list[str] = []
        self.data: dict[str, Any] | None = None

    def progress(
        self, done: float, total: float | None, unit: str, text: str = "", **more: float | None
    ) -> None:
        self.progressed.append((done, total))

    def message(self, text: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        self.said.append(text)
        self.data = data


# ---- metrics -----------------------------------------------------------------------------------


def test_metrics_have_openais_columns(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv", 0)
    file.add(1, {"train_loss": 2.5, "train_accuracy": 0.25})
    file.add(2, {"train_loss": 2.25, "train_accuracy": 0.5, "valid_loss": 2.125})
    file.close()
    text = (tmp_path / "metrics.csv").read_text()
    head = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
    assert text == head + "1,2.5,0.25,,\n2,2.25,0.5,2.125,\n"
    assert curve(tmp_path / "metrics.csv", "valid_loss") == [(2, 2.125)]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, 0)
    for step in (1, 2, 3):
        file.add(step, {"train_loss": float(step)})
    file.close()
    with path.open("a") as handle:
        handle.write("4,0.1")  # a kill in the middle of a line
    again = MetricsFile(path, 2)
    again.add(3, {"train_loss": 3.0})
    again.close()
    assert [row["step"] for row in read(path)] == ["1", "2", "3"]
    assert list(read(path)[0]) == list(COLUMNS)


# ---- work folder -------------------------------------------------------------------------------


def test_a_work_folder_is_for_one_training(tmp_path: Path) -> None:
    claim(tmp_path / "work", {"rate": 0.1, "rank": 4})
    claim(tmp_path / "work", {"rate": 0.1, "rank": 4})
    with pytest.raises(BadRequest, match=r"rate \(0\.1 there, 0\.2 now\)"):
        claim(tmp_path / "work", {"rate": 0.2, "rank": 4})


# ---- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_says_what_to_do(loss: float) -> None:
    check_finite(1.0, 7, 1e-3)
    with pytest.raises(Diverged, match=r"at step 7 .*multiplier"):
        check_finite(loss, 7, 1e-3)


@pytest.mark.parametrize(
    "said",
    ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory: you tried"],
)  # fmt: skip
def test_out_of_memory_says_what_to_lower(said: str) -> None:
    with pytest.raises(OutOfMemory, match="--micro-tokens"), explained("cuda"):
        raise RuntimeError(f"{said} 20 GiB\nmore lines")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), explained("cpu"):
        raise RuntimeError("shape mismatch")


# ---- engines -----------------------------------------------------------------------------------


def test_an_unknown_engine_is_refused_with_the_known() -> None:
    with pytest.raises(BadRequest, match=r"'torchtune'; known: peft, unsloth, mlx, llama\.cpp"):
        get("torchtune")


OUTPUT = (
    "train: [████    ] data=0000001/0000002 loss=5.25000±0.10000 acc=12.50±1.00% t=00:00:01 ETA=00:00:01 \r"
    "train: [████████] data=0000002/0000002 loss=5.00000±0.10000 acc=25.00±1.00% t=00:00:02 ETA=00:00:00 \r\n"
    "val:   [████████] data=0000001/0000001 loss=4.50000±nan acc=50.00±1.00% t=00:00:02 ETA=00:00:00 \r\n\n"
    "train: [████    ] data=0000001/0000002 loss=4.25000±0.10000 acc=62.50±1.00% t=00:00:01 ETA=00:00:01 \r"
    "train: [████████] data=0000002/0000002 loss=4.00000±0.10000 acc=75.00±1.00% t=00:00:02 ETA=00:00:00 \r\n"
)


def test_llama_finetunes_lines_are_read() -> None:
    assert read_progress(OUTPUT)[:3] == [
        ("train", 1, 2, 5.25, 0.125),
        ("train", 2, 2, 5.0, 0.25),
        ("val", 1, 1, 4.5, 0.5),
    ]


@pytest.mark.parametrize("piece", [1, 7, 200, 10_000])
def test_its_epochs_become_steps_however_the_output_comes(tmp_path: Path, piece: int) -> None:
    metrics, told = MetricsFile(tmp_path / "metrics.csv", 0), Told()
    follow = Follower(metrics, 2, told, lambda: False)
    for end in range(piece, len(OUTPUT) + piece, piece):
        follow(OUTPUT[:end])
    assert follow.end_epoch()["train_loss"] == 4.0
    metrics.close()
    found: list[Any] = [(r["step"], r["train_loss"], r["valid_loss"]) for r in read(metrics.path)]
    assert found == [("1", "5", "4.5"), ("2", "4", "")]
    assert told.progressed == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told.said[0] == "Step 1/2: training loss=5.0000"
    figures = {"train_loss": 4.0, "train_mean_token_accuracy": 0.75}
    assert told.data == {"step": 2, "total_steps": 2, **figures}
    assert follow.windows == {"train": 2, "val": 1}


def test_only_its_weights_are_taken(tmp_path: Path) -> None:
    base, trained = (tmp_path / name for name in ("base.gguf", "trained.gguf"))
    write_gguf(base, weight=1.0, context=4096)
    write_gguf(trained, weight=2.0, context=512)
    take_weights(base, trained)
    made = GGUFReader(base)
    assert made.fields["llama.context_length"].contents() == 4096
    assert made.tensors[0].data.tolist() == [2.0, 2.0, 2.0]
    write_gguf(trained, weight=2.0, context=512, name="b")
    with pytest.raises(ToolError, match="other tensors"):
        take_weights(base, trained)


def write_gguf(path: Path, *, weight: float, context: int, name: str = "a") -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_tensor(name, np.full(3, weight, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("tokens", "windows"), [(0, 0), (513, 0), (768, 0), (769, 1), (1025, 2)])
def test_windows_are_half_over_each_other(tokens: int, windows: int) -> None:
    assert windows_of(tokens) == windows


def test_a_text_needs_a_window_to_learn_and_one_to_measure() -> None:
    check_length(1025)
    with pytest.raises(InvalidData, match=r"has 1,024 tokens; .* at least 1,025"):
        check_length(1024)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.csv", 0)
    with pytest.raises(Stopped):
        Follower(metrics, 2, Told(), lambda: True)(OUTPUT)
    metrics.close()


def test_it_learns_text_and_refuses_chats(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert text_of(texts) == "one\ntwo"
    chats = tmp_path / "chats.jsonl"
    chats.write_text(
        '{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}\n'
    )
    with pytest.raises(InvalidData, match=r"chats\.jsonl:1: .*raw text.*--engine peft"):
        text_of(chats)
