"""Names: what /v1/models lists, and every spelling under which a model is found."""

import pytest
from openai import NotFoundError, OpenAI
from openai.types import Model

from tests.e2e.conftest import BUNDLED

ALIASES = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-3.5-turbo")
SPELLINGS = (
    "corral-tiny-folio",
    "openai/corral-tiny-folio",
    "openai%2Fcorral-tiny-folio",
    *ALIASES,
    "openai/gpt-4o",
)


def test_the_list_holds_models_adapters_and_aliases(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {*BUNDLED, *ALIASES} <= set(models)
    assert all(model.object == "model" and model.created > 0 for model in models.values())


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_model_is_retrieved_under_every_spelling(client: OpenAI, name: str) -> None:
    raw = client.models.with_raw_response.retrieve(name)
    model = Model.model_validate_json(raw.text, strict=True)
    assert model.model_extra is not None
    assert model.model_extra["corral"]["base"] == "corral-tiny"


def test_a_percent_encoded_slash_in_the_path_is_a_slash(client: OpenAI) -> None:
    """Node's SDK and curl users send `%2F` once, Python's sends what it is given, encoded again."""
    model = client.get("/models/openai%2Fcorral-tiny", cast_to=Model)
    assert model.id.endswith("corral-tiny")


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_model_answers_under_every_spelling_with_that_name(client: OpenAI, name: str) -> None:
    answer = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "x"}], max_tokens=1
    )
    assert answer.model == name


@pytest.mark.parametrize(
    "name", ["no-such", "openai/openai/corral-tiny", "no/such:1", "Corral-Tiny"]
)
def test_an_unknown_name_is_told_with_those_there_are(client: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as retrieved:
        client.models.retrieve(name)
    with pytest.raises(NotFoundError) as asked:
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
    for error in (retrieved.value, asked.value):
        assert error.code == "model_not_found"
        assert error.param == "model"
        assert f"`{name}`" in error.message
        assert "`corral-tiny-folio`" in error.message
