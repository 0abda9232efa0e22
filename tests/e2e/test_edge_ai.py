"""FOLIO's edge-ai agent with the bundled adapter: it asks for `gpt-4o`, looks ids up, and gets its record as text."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client_program import client_python, run_program
from tests.e2e.corral_process import CorralProcess

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "clients" / "edge_ai_program.py"
CASES = ROOT / "tests" / "data" / "edge_ai_cases.jsonl"
# Of whole records; 19 of 40 were when the adapter was bundled (models/README.md).
LEAST_RIGHT = 0.35


@pytest.fixture(scope="module")
def outcomes(
    corral: CorralProcess, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What came of each case, in their order."""
    python, folder = client_python("pydantic-ai"), tmp_path_factory.mktemp("edge-ai")
    found: list[dict[str, Any]] = json.loads(
        run_program(python, PROGRAM, corral.url, CASES, folder=folder)
    )
    assert len(found) == len(CASES.read_text("utf-8").splitlines())
    return found


def test_every_case_ends_with_a_record_as_text(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        assert isinstance(outcome.get("record"), str), outcome
        assert isinstance(json.loads(outcome["record"]), dict)


def test_a_record_takes_one_turn_of_look_ups(outcomes: list[dict[str, Any]]) -> None:
    assert {outcome["requests"] for outcome in outcomes} == {2}


def test_records_hold_the_ids_that_were_looked_up(outcomes: list[dict[str, Any]]) -> None:
    right = sum(outcome["right"] for outcome in outcomes)
    assert right >= LEAST_RIGHT * len(outcomes), outcomes
