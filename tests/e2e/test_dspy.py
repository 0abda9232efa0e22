"""DSPy 3 against Corral: its adapters, typed outputs, streaming, embeddings and its errors."""

from typing import Any

import pytest

from tests.e2e.client_program import run_client
from tests.e2e.corral_process import CorralProcess

RECIPE = {
    "dish": "Onion soup",
    "cook": "Paul Meyer",
    "ingredients": ["onions", "butter", "thyme"],
    "minutes": 45,
}


@pytest.fixture(scope="module")
def results(corral: CorralProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every scenario of tests/clients/dspy_program.py, run once."""
    return run_client("dspy", corral.url, tmp_path_factory.mktemp("dspy"))


@pytest.mark.parametrize(
    "scenario", ["chat_adapter", "json_adapter", "with_demonstration", "through_litellm"]
)
def test_typed_outputs_hold_the_facts(results: dict[str, Any], scenario: str) -> None:
    assert results[scenario] == RECIPE


def test_bool_and_float_are_outputs(results: dict[str, Any]) -> None:
    assert results["types"] == {"owner": "Lindqvist", "sealed": True, "depth": 4.5}


def test_a_strict_schema_is_held_by_an_alias_that_dspy_knows(results: dict[str, Any]) -> None:
    """The weights behind the alias were not trained for this prompt: only the shape is certain."""
    answer = results["json_schema"]
    assert set(answer) == set(RECIPE), answer
    assert isinstance(answer["minutes"], int)
    assert isinstance(answer["ingredients"], list)


def test_streamify_gives_pieces_and_then_the_prediction(results: dict[str, Any]) -> None:
    streamed = results["streamed"]
    assert streamed["prediction"] == RECIPE
    assert "".join(streamed["pieces"]).strip() == RECIPE["dish"]
    assert len(streamed["pieces"]) > 1


def test_the_embedder_gets_vectors(results: dict[str, Any]) -> None:
    assert results["embedded"] == {"count": 2, "width": 256}


def test_several_answers_are_several_requests(results: dict[str, Any]) -> None:
    assert len(results["several"]) == 2


@pytest.mark.parametrize(
    ("scenario", "error"),
    [("too_long", "ContextWindowExceededError"), ("unknown", "LMUnsupportedModelError")],
)
def test_mistakes_are_dspys_own_errors(results: dict[str, Any], scenario: str, error: str) -> None:
    assert results[scenario]["raised"] == error
