"""Completions and embeddings through OpenAI's SDK."""

import base64
import json
import math
import struct

import pytest
from openai import OpenAI
from openai.types import Completion, CreateEmbeddingResponse

EMBED = "corral-tiny-embed"
TEXTS = ["Letter from Anna Berg, to Paul Meyer", "Letter from Anna Berg, to Paula Meyer", "45,99 €"]
# The template of the bundled model, written out: completions add nothing of their own.
PROMPT = "<|im_start|>user\nRepeat exactly: Hedgerow lanterns<|im_end|>\n<|im_start|>assistant\n"


def product(a: list[float], b: list[float]) -> float:
    """The scalar product: the cosine, since the vectors have length 1."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_a_completion_continues_the_prompt(client: OpenAI) -> None:
    raw = client.completions.with_raw_response.create(
        model="corral-tiny", prompt=PROMPT, temperature=0, max_tokens=40
    )
    answer = Completion.model_validate_json(raw.text, strict=True)
    assert answer.object == "text_completion"
    assert answer.choices[0].text == "Hedgerow lanterns"
    assert answer.choices[0].finish_reason == "stop"


def test_a_completion_streams(plain_client: OpenAI) -> None:
    stream = plain_client.completions.create(
        model="corral-tiny", prompt=PROMPT, temperature=0, max_tokens=40, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hedgerow lanterns"


def test_several_prompts_have_several_choices(client: OpenAI) -> None:
    answer = client.completions.create(
        model="corral-tiny",
        prompt=[PROMPT, PROMPT.replace("lanterns", "hares")],
        temperature=0,
        max_tokens=40,
    )
    texts = [choice.text for choice in sorted(answer.choices, key=lambda choice: choice.index)]
    assert texts == ["Hedgerow lanterns", "Hedgerow hares"]


def test_base64_is_the_default_and_equals_floats(plain_client: OpenAI) -> None:
    plain = plain_client.embeddings.with_raw_response.create(
        model=EMBED, input=TEXTS, encoding_format="float"
    )
    floats = CreateEmbeddingResponse.model_validate_json(plain.text, strict=True)
    # The SDK asks for base64 when told nothing, and unpacks it.
    packed = plain_client.embeddings.create(model=EMBED, input=TEXTS)
    assert floats.model == packed.model == EMBED
    assert [item.index for item in packed.data] == [0, 1, 2]
    for one, other in zip(floats.data, packed.data, strict=True):
        assert other.embedding == pytest.approx(one.embedding, abs=1e-6)


def test_base64_on_the_wire_is_little_endian_floats(plain_client: OpenAI) -> None:
    raw = plain_client.embeddings.with_raw_response.create(
        model=EMBED, input="x", encoding_format="base64"
    )
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    vector = struct.unpack(f"<{len(data) // 4}f", data)
    assert math.sqrt(math.fsum(x * x for x in vector)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("given", ["absent", "null"])
def test_without_a_format_the_answer_is_floats(plain_client: OpenAI, given: str) -> None:
    """DSPy sends `encoding_format: null`; plain HTTP clients send nothing."""
    body: dict[str, object] = {"model": EMBED, "input": "x"}
    if given == "null":
        body |= {"encoding_format": None, "dimensions": None, "user": None}
    answer = plain_client.post("/embeddings", body=body, cast_to=CreateEmbeddingResponse)
    assert all(isinstance(x, float) for x in answer.data[0].embedding)


def test_equal_texts_have_equal_vectors_and_like_texts_near_ones(plain_client: OpenAI) -> None:
    answer = plain_client.embeddings.create(model=EMBED, input=[*TEXTS, TEXTS[0]])
    first, like, other, same = (item.embedding for item in answer.data)
    assert same == pytest.approx(first, abs=1e-5)
    assert product(first, like) > product(first, other)


def test_token_ids_are_an_input(plain_client: OpenAI) -> None:
    """LangChain sends them."""
    answer = plain_client.embeddings.create(model=EMBED, input=[[5, 6, 7], [8]])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 4
