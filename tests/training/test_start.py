"""A training that begins with an adapter: read off its GGUF as it was, and gone on from."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from corral.errors import BadRequest
from corral.registry import manifest
from corral.registry.disk import hash_of
from corral.registry.lora_header import read_lora
from engines import Task, adapter_gguf, start
from engines.hyperparameters import Hyperparameters
from engines.peft_engine import load_base, lora_over
from step_metrics import curve
from tests.training.conftest import DEFAULTS, FOLIO, MODEL, argv, run_stage
from tests.training.test_finetune import environment, last_adapter, wait_for_step

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
}  # fmt: skip


def llama() -> Any:
    return load_base(MODEL, 64, device=torch.device("cpu"))


def qwen3() -> Any:
    return AutoModelForCausalLM.from_config(Qwen3Config(**SMALL))


def task(work: Path, source: Path, begin: Path, hyper: Hyperparameters | None = None) -> Task:
    hyper = hyper or Hyperparameters()
    return Task(MODEL, work, work, DEFAULTS.llama_bin_dir, source, hyper, start=begin)


def made(base: Any, work: Path, source: Path) -> tuple[dict[str, torch.Tensor], Path]:
    """A random adapter over the base, and its GGUF."""
    model = lora_over(base, Hyperparameters(rank=3, alpha=5.0))
    tensors = {
        name.replace(".default", ""): torch.randn_like(weight).half().float()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    start._write(work / "peft", tensors, 3, 5.0)
    adapter_gguf.write_config(base.config.to_dict(), type(base).__name__, work / "base")
    out = work / "a.gguf"
    adapter_gguf.to_gguf(work / "peft", work / "base", out, source, name="a", base="b")
    return tensors, out


@pytest.mark.parametrize("architecture", [llama, qwen3])
def test_a_gguf_is_read_as_the_adapter_it_was_made_of(
    architecture: Any, llama_source: Path, tmp_path: Path
) -> None:
    """llama.cpp turns the rows of a llama's queries and keys, and not those of others."""
    tensors, out = made(architecture(), tmp_path, llama_source)
    assert read_lora(out) == (3, 5.0)
    base = architecture()
    found = start.load(task(tmp_path, llama_source, out), base)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)
    model = lora_over(base, Hyperparameters(rank=3, alpha=5.0, targets=found.targets))
    found.load_into(model)
    weights = dict(model.named_parameters())
    query = next(name for name in weights if "q_proj.lora_B" in name)
    assert torch.equal(weights[query], tensors[query.replace(".default", "")])


def test_an_adapter_of_another_base_is_refused(llama_source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, out = made(qwen3(), tmp_path / "other", llama_source)
    base = llama()
    adapter_gguf.write_config(base.config.to_dict(), type(base).__name__, tmp_path / "base")
    with pytest.raises(BadRequest, match="made for another base: its blk"):
        start.load(task(tmp_path, llama_source, out), base)


def test_rank_alpha_and_layers_are_the_adapters(tmp_path: Path) -> None:
    assert start.shaped(Hyperparameters(rank=32), FOLIO) == Hyperparameters(rank=32, alpha=64.0)
    with pytest.raises(BadRequest, match="alpha is 8, and the adapter to begin with has 64"):
        start.shaped(Hyperparameters(alpha=8.0), FOLIO)
    start._write(
        tmp_path / "peft", {"base_model.model.x.q_proj.lora_A.weight": torch.ones(2)}, 2, 4
    )
    with pytest.raises(
        BadRequest, match="targets are v_proj, and the adapter to begin with has q_p"
    ):
        start.load(task(tmp_path, tmp_path, tmp_path / "peft"), None, ("v_proj",))
    with pytest.raises(BadRequest, match="is neither an adapter's GGUF nor a PEFT folder"):
        start.shaped(Hyperparameters(), tmp_path)


def test_training_goes_on_from_an_adapter_and_after_a_kill(
    token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    options = ["--model", MODEL, "--rows", token_rows, "--llama-source", llama_source]
    options += ["--batch-size", 8, "--checkpoint-seconds", 0, "--seed", 3, "--rate", "1e-3"]
    fresh = run_stage("finetune_lora.py", *options, "--epochs", 0.2, "--out", tmp_path / "f.gguf")
    options += ["--epochs", 1, "--start", FOLIO, "--start-name", "folio", "--name", "more"]
    whole, killed = tmp_path / "whole" / "a.gguf", tmp_path / "killed" / "a.gguf"
    went_on = run_stage("finetune_lora.py", *options, "--out", whole)
    first = [curve(Path(run["metrics"]), "train_loss")[0][1] for run in (fresh, went_on)]
    assert first[1] < 0.5 * first[0]
    assert went_on["hyperparameters"]["rank"] == 32
    described = manifest.read(whole.parent / "more.manifest.json")
    assert described.start == manifest.BaseOf(name="folio", sha256=hash_of(FOLIO))
    assert described.base is not None
    assert described.base.name == "corral-tiny"
    child = subprocess.Popen(
        argv("finetune_lora.py", *options, "--out", killed), env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_step(killed.with_suffix(".work") / "metrics.csv", 2, child)
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    run_stage("finetune_lora.py", *options, "--out", killed)
    assert last_adapter(killed) == last_adapter(whole)
    assert killed.read_bytes() == whole.read_bytes()


def test_another_rank_is_refused_before_anything_starts(token_rows: Path, tmp_path: Path) -> None:
    options = ["--model", MODEL, "--rows", token_rows, "--out", tmp_path / "a.gguf"]
    said = run_stage("finetune_lora.py", *options, "--start", FOLIO, "--rank", 8, status=2)
    assert "rank is 8, and the adapter to begin with has 32; leave it out" in said["error"]


def test_an_engine_that_cannot_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a")
    options = ["--model", MODEL, "--file", tmp_path / "t.txt", "--out", tmp_path / "a.gguf"]
    options += ["--engine", "llama.cpp", "--start", FOLIO]
    said = run_stage("finetune_lora.py", *options, status=1)
    assert "the llama.cpp engine takes no --start" in said["error"]
