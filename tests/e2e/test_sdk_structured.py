"""Structured outputs through OpenAI's SDK: the grammar holds the schema, the model fills it."""

import json

import pytest
from openai import LengthFinishReasonError, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel


class Product(BaseModel):
    """What a sentence about a product says."""

    name: str
    maker: str
    minutes: int
    colours: list[str]


TEXT = "Product Garden chair; made by Lindqvist; ready in 45 minutes; Colours: red, white"
EXPECTED = Product(name="Garden chair", maker="Lindqvist", minutes=45, colours=["red", "white"])
MESSAGES: list[ChatCompletionMessageParam] = [
    {
        "role": "system",
        "content": 'Schema: {"name": "name", "maker": "maker", "minutes": "minutes", '
        '"colours": ["colours"]}',
    },
    {"role": "user", "content": TEXT},
]


def test_parse_gives_an_object_with_the_facts(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="corral-tiny", messages=MESSAGES, response_format=Product, temperature=0
    )
    assert answer.choices[0].message.parsed == EXPECTED


def test_the_schema_binds_a_model_that_would_answer_otherwise(client: OpenAI) -> None:
    """Not the prompt but the schema asks for JSON here, and even for one of three words."""
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "Repeat exactly: Hedgerow lanterns"}],
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {
                        "size": {"type": "string", "enum": ["S", "M", "L"]},
                        "count": {"type": "integer"},
                    },
                    "required": ["size", "count"],
                    "additionalProperties": False,
                },
            },
        },
        max_tokens=60,
    )
    value = json.loads(answer.choices[0].message.content or "")
    assert value["size"] in ("S", "M", "L")
    assert isinstance(value["count"], int)
    assert set(value) == {"size", "count"}


def test_a_streamed_object_is_the_same(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="corral-tiny", messages=MESSAGES, response_format=Product, temperature=0
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == EXPECTED


def test_json_object_asks_for_any_json(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=MESSAGES,
        response_format={"type": "json_object"},
        temperature=0,
    )
    assert Product.model_validate_json(answer.choices[0].message.content or "") == EXPECTED


def test_an_answer_that_was_cut_off_is_told_as_such(client: OpenAI) -> None:
    with pytest.raises(LengthFinishReasonError):
        client.chat.completions.parse(
            model="corral-tiny", messages=MESSAGES, response_format=Product, max_tokens=5
        )
