"""Micro-batches beside each other: the same adapter as one after the other, and nothing left running."""

import threading
import time
from pathlib import Path

import pytest
import torch

import stage
from engines import Task, peft_engine
from engines.hyperparameters import Hyperparameters
from engines.lanes import Lanes, lanes_for
from engines.loop import Loop
from tests.training.conftest import MODEL
from token_rows import TokenRows

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

CPU = torch.device("cpu")
SHORT = Hyperparameters(epochs=0.4, rank=8, batch_tokens=1400, micro_tokens=700, precision="fp32")


def test_what_is_made_comes_in_the_order_of_the_parts() -> None:
    pauses = [0.05, 0.0, 0.02, 0.01]

    def work(number: int) -> int:
        time.sleep(pauses[number])
        return number

    assert Lanes(2).map(work, range(4)) == [0, 1, 2, 3]


def test_a_part_that_fails_is_raised_when_none_is_under_way() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 0:
            begun.wait(10)
            raise MemoryError
        begun.set()
        time.sleep(0.05)
        ended.set()

    with pytest.raises(MemoryError):
        Lanes(2).map(work, range(2))
    assert ended.is_set()


def test_dropout_large_models_and_other_devices_have_one_lane() -> None:
    most = min(2, torch.get_num_threads())
    assert lanes_for(3_000_000, CPU, 0.0) == most
    assert lanes_for(3_000_000, CPU, 0.1) == 1
    assert lanes_for(300_000_000, CPU, 0.0) == 1
    assert lanes_for(3_000_000, torch.device("cuda"), 0.0) == 1


def trained(rows: TokenRows, work: Path, lanes: int) -> dict[str, torch.Tensor]:
    """The adapter's weights after a few steps."""
    work.mkdir()
    engine, task = peft_engine.PeftEngine(), Task(MODEL, Path(), work, Path(), None, SHORT)
    base = engine.load(task, int(rows.lengths.max()), CPU)
    hyper = SHORT.resolved(3_000_000, len(rows), "cpu")
    model = engine.adapt(base, hyper)
    tell = stage.Reporter(None)
    facts = Loop(model, rows, None, hyper, work, CPU, False, tell, lambda: False, lanes).run().facts
    assert facts["steps"] > 2
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_two_lanes_train_the_same_adapter_as_one_every_time(
    token_rows: Path, tmp_path: Path
) -> None:
    rows = TokenRows(token_rows)
    one, two, again = (trained(rows, tmp_path / str(n), lanes) for n, lanes in enumerate((1, 2, 2)))
    assert two.keys() == one.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5)
        assert torch.equal(again[name], two[name])
