"""pydantic-ai against Corral: typed outputs by tool and by schema, on chat and on Responses."""

from typing import Any

import pytest

from tests.e2e.client_program import run_client
from tests.e2e.corral_process import CorralProcess

LETTER = {"sender": "Anna Berg", "receiver": "Paul Meyer", "subject": "Harbour lights"}


@pytest.fixture(scope="module")
def results(corral: CorralProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every scenario of tests/clients/pydantic_ai_program.py, run once."""
    return run_client("pydantic-ai", corral.url, tmp_path_factory.mktemp("pydantic-ai"))


@pytest.mark.parametrize(
    "scenario",
    [
        "tool_output",
        "native_output",
        "prompted_output",
        "responses_tool_output",
        "responses_native_output",
    ],
)
def test_an_output_type_is_filled_at_the_first_request(
    results: dict[str, Any], scenario: str
) -> None:
    assert results[scenario] == {**LETTER, "requests": 1}


@pytest.mark.parametrize("scenario", ["plain", "responses_plain"])
def test_text_is_text(results: dict[str, Any], scenario: str) -> None:
    assert results[scenario] == "Hedgerow lanterns"


@pytest.mark.parametrize("scenario", ["streamed", "responses_streamed"])
def test_text_streams_in_pieces(results: dict[str, Any], scenario: str) -> None:
    assert "".join(results[scenario]["pieces"]) == "Hedgerow lanterns"
    assert len(results[scenario]["pieces"]) > 1
    assert results[scenario]["tokens"] > 1


def test_a_tool_is_called_and_its_result_used(results: dict[str, Any]) -> None:
    outcome = results["with_tool"]
    assert outcome["asked"] == [["sender", "Anna Berg"]]
    assert outcome["output"] == {"senderId": "8841-ab03", "receiver": "Paul Meyer"}


def test_an_unknown_model_is_an_http_error(results: dict[str, Any]) -> None:
    assert results["unknown"]["raised"] == "ModelNotFoundError"
    assert "corral-tiny-folio" in results["unknown"]["message"]
