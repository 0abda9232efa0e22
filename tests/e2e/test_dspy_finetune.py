"""Unmodified DSPy trains on this machine with nothing but OPENAI_BASE_URL, and its program gets better."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client_program import CLIENTS, ROOT, client_python, run_program
from tests.e2e.corral_process import CorralProcess

FT = re.compile(r"openai/ft:corral-tiny:local::[0-9a-f]+\Z")
# Measured: 0% before.
LEAST_GAIN = 30


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CorralProcess]:
    """A Corral of this module's own: what it trains is none of the others' business."""
    with CorralProcess(tmp_path_factory.mktemp("trainer")) as process:
        yield process


def run(trainer: CorralProcess, program: Path, folder: Path) -> str:
    return run_program(
        client_python("dspy"),
        program,
        folder=folder,
        seconds=1800,
        OPENAI_BASE_URL=trainer.url,
        OPENAI_API_KEY="any",
        DSPY_FINETUNEDIR=str(folder / "finetune"),
    )


def test_bootstrap_finetune_raises_the_metric_of_a_program(
    trainer: CorralProcess, tmp_path: Path
) -> None:
    said = run(trainer, ROOT / "examples" / "dspy_finetune.py", tmp_path)
    told = dict(re.findall(r"^(before|model|after): (.+)$", said, re.M))
    before, after = (int(told[word].rstrip("%")) for word in ("before", "after"))
    assert FT.match(told["model"]), said
    assert after >= before + LEAST_GAIN, said


@pytest.fixture(scope="module")
def others(
    trainer: CorralProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("others")
    said = run(trainer, CLIENTS / "dspy_finetune_program.py", folder)
    found: dict[str, dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


def test_an_lm_trains_by_itself_and_then_answers(others: dict[str, dict[str, Any]]) -> None:
    outcome = others["lm_finetune"]
    assert FT.match(outcome["model"]), outcome
    assert isinstance(outcome["heading"], str)


def test_better_together_trains_after_it_has_found_demonstrations(
    others: dict[str, dict[str, Any]],
) -> None:
    outcome = others["better_together"]
    assert outcome["failed"] is False
    assert FT.match(outcome["tried"]["p -> w"]), outcome
    assert outcome["tried"]["p"] == outcome["tried"][""] == "openai/corral-tiny"
