"""Chat through OpenAI's SDK, which checks every answer against its own types (the strict client)."""

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

TEXT = "Hedgerow lanterns (Dublin)"
REPEAT: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Repeat exactly: {TEXT}"}]
# Sampling that takes the unlikely too, so that two answers are hardly ever the same.
WILD: dict[str, Any] = {
    "temperature": 3,
    "max_tokens": 20,
    "extra_body": {"top_k": 0, "min_p": 0, "ignore_eos": True},
}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
OPTIONAL = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
]


def test_an_answer_has_the_asked_name_and_every_required_field(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="corral-tiny", messages=REPEAT, temperature=0
    )
    answer = ChatCompletion.model_validate_json(raw.text, strict=True)
    assert raw.headers["x-request-id"]
    assert answer.model == "corral-tiny"
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens < 40


def test_a_stream_holds_the_same_text_and_ends_with_the_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="corral-tiny",
            messages=REPEAT,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *parts, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parts) == TEXT
    assert parts[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {"corral-tiny"}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens >= 3
    assert all(chunk.usage is None for chunk in parts)


def test_every_chunk_of_a_stream_keeps_the_types(client: OpenAI) -> None:
    events = []
    with client.chat.completions.with_streaming_response.create(
        model="corral-tiny", messages=REPEAT, stream=True, max_completion_tokens=8
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in raw.iter_lines() if line]
    assert events.pop() == "[DONE]"
    for event in events:
        ChatCompletionChunk.model_validate_json(event, strict=True)


def test_earlier_turns_are_examples_to_follow(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        temperature=0,
        messages=[
            {"role": "system", "content": "Follow the examples."},
            {"role": "user", "content": "Photograph: Harbour lights; Photographer: Anna Berg"},
            {
                "role": "assistant",
                "content": '{"caption": "Harbour lights", "photographers": ["Anna Berg"]}',
            },
            {"role": "user", "content": "Photograph: Winter orchard; Photographer: Paul Meyer"},
        ],
    )
    assert json.loads(answer.choices[0].message.content or "") == {
        "caption": "Winter orchard",
        "photographers": ["Paul Meyer"],
    }


def test_max_completion_tokens_cuts_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny", messages=HELLO, max_completion_tokens=3
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("stop", ["lanterns", ["never", "lanterns"]])
def test_stop_ends_the_answer_before_the_word(client: OpenAI, stop: str | list[str]) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny", messages=REPEAT, temperature=0, stop=stop
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "Hedgerow "


def test_a_seed_repeats_an_answer_and_another_seed_does_not(client: OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = client.chat.completions.create(
            model="corral-tiny", messages=HELLO, seed=seed, top_p=1, **WILD
        )
        return answer.choices[0].message.content or ""

    first = ask(1)
    assert ask(1) == first
    assert any(ask(seed) != first for seed in (2, 3, 4))


def test_n_gives_that_many_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny", messages=HELLO, n=2, top_p=1, **WILD
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    first, second = (choice.message.content for choice in answer.choices)
    assert first != second


def test_logprobs_spell_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny", messages=REPEAT, temperature=0, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    spelled = b"".join(bytes(token.bytes or []) for token in logprobs.content)
    assert spelled.decode().strip() == TEXT
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_null_means_not_set_for_every_optional_key(client: OpenAI) -> None:
    body: dict[str, Any] = {"model": "corral-tiny", "messages": REPEAT, **dict.fromkeys(OPTIONAL)}
    assert client.post("/chat/completions", body=body, cast_to=ChatCompletion).choices


@pytest.mark.parametrize("key", OPTIONAL)
def test_null_is_tolerated_one_by_one(client: OpenAI, key: str) -> None:
    body: dict[str, Any] = {"model": "corral-tiny", "messages": HELLO, "n_predict": 1, key: None}
    assert client.post("/chat/completions", body=body, cast_to=ChatCompletion).choices


def test_options_that_mean_nothing_here_are_tolerated(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=REPEAT,
        temperature=0,
        store=True,
        metadata={"purpose": "test"},
        user="someone",
        service_tier="auto",
        reasoning_effort="low",
        verbosity="low",
        parallel_tool_calls=False,
        extra_body={"guided_json": {}, "chat_template_kwargs": {"a": 1}, "no_such_option": [1]},
    )
    assert answer.choices[0].message.content == TEXT


# Shapes that clients were seen to send (DSPy, pydantic-ai, instructor, edge-ai).
HISTORIES: dict[str, list[dict[str, Any]]] = {
    "several system messages": [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "x"},
        {"role": "system", "content": "Three."},
    ],
    "developer": [{"role": "developer", "content": "One."}, {"role": "user", "content": "x"}],
    "null without tool calls": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "y"},
    ],
    "assistant without content": [
        {"role": "user", "content": "x"},
        {"role": "assistant"},
        {"role": "user", "content": "y"},
    ],
    "empty contents": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
    "no parts": [{"role": "user", "content": []}],
    "names": [{"role": "user", "content": "x", "name": "someone"}],
    "empty tool result": [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": ""},
    ],
}


@pytest.mark.parametrize("messages", HISTORIES.values(), ids=HISTORIES.keys())
def test_odd_histories_are_answered(client: OpenAI, messages: list[dict[str, Any]]) -> None:
    body = {"model": "corral-tiny", "messages": messages, "max_tokens": 1}
    answer = client.post("/chat/completions", body=body, cast_to=ChatCompletion)
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_the_streaming_helper_gathers_the_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="corral-tiny", messages=REPEAT, temperature=0
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == TEXT
