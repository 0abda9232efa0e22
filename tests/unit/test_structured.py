"""What a request demands of its answer's form, and answers that have it and have it not."""

import json
from typing import Any

import pytest

from corral.errors import BadRequest
from corral.gateway.answers import Answer, Gathered, whole
from corral.gateway.compat import reconcile
from corral.gateway.sse import Dialect, renaming
from corral.gateway.structured import Form, another_try, form_of
from corral.gateway.structured_stream import CheckedStream

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
STRICT = {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}
FLAT = {"type": "function", "name": "f", "parameters": SCHEMA}
CLAUDE = {"name": "f", "input_schema": SCHEMA}
GOOD, BAD = '{"n": 1}', '{"n": "x"}'
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def form(dialect: Dialect = "openai", *, chat: bool = True, **body: Any) -> Form | None:
    reconcile(body)
    return form_of(body, dialect, chat=chat)


def binding(dialect: Dialect = "openai", *, chat: bool = True, **body: Any) -> Form:
    found = form(dialect, chat=chat, **body)
    assert found is not None
    return found


def param(wanted: Form, answer: Answer) -> str | None:
    fault = wanted.check(answer)
    if fault is None:
        return None
    assert (fault.status, fault.code) == (502, "invalid_structured_output")
    assert fault.headers["x-should-retry"] == "false"
    return fault.param


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []} | {"messages": [{"role": "user", "content": "x"}]},
        {"response_format": {"type": "text"}},
        {"text": {"format": {"type": "text"}}},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"tools": [STRICT], "tool_choice": "none"},
        {"tool_choice": "required"},
        {"grammar": 'root ::= "a"'},
    ],
)
def test_who_asks_for_no_form_gets_none(body: dict[str, Any]) -> None:
    assert form(**body) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"response_format": JSON_SCHEMA}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            "response_format.schema",
        ),
        ({"json_schema": SCHEMA}, "json_schema"),
        ({"json_schema": SCHEMA, "response_format": {"type": "text"}}, "json_schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_text_must_have_the_schema_whichever_field_asked(body: dict[str, Any], field: str) -> None:
    wanted = binding(**body)
    assert param(wanted, Answer(GOOD)) is None
    for text in (BAD, "[1]", "", "n = 1", '{"n": 1', '{"n": NaN}', '{"n": 1}}', "[" * 5000):
        assert param(wanted, Answer(text)) == field, text
    assert param(wanted, Answer(BAD, cut=True)) is None


def test_any_object_is_what_json_object_asks_for() -> None:
    wanted = binding(response_format={"type": "json_object"})
    assert param(wanted, Answer('{"a": [1]}')) is None
    assert param(wanted, Answer("[1]")) == "response_format.schema"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL, FLAT], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [FLAT], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CLAUDE], "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [CLAUDE], "tool_choice": {"type": "any"}},
    ],
)
def test_a_demanded_call_must_come_and_fit(body: dict[str, Any]) -> None:
    wanted = binding(**body)
    assert param(wanted, Answer(calls=(("f", GOOD),))) is None
    assert param(wanted, Answer(calls=(("f", {"n": 1}),))) is None
    assert param(wanted, Answer("no tool for that")) == "tool_choice"
    assert param(wanted, Answer(calls=(("g", GOOD),))) == "tools"
    for arguments in (BAD, '{"n": ', {"n": "x"}):
        fault = param(wanted, Answer(calls=(("f", GOOD), ("f", arguments))))
        assert fault is not None
        assert fault.startswith("tools[")
    assert param(wanted, Answer(cut=True)) is None
    assert param(wanted, Answer(calls=(("f", BAD),), cut=True)) is None
    assert param(wanted, Answer(calls=(("f", BAD), ("f", GOOD)), cut=True)) is not None


def test_a_strict_tool_binds_only_who_calls_it() -> None:
    wanted = binding(tools=[STRICT])
    assert param(wanted, Answer("text")) is None
    assert param(wanted, Answer(calls=(("f", BAD),))) == "tools[0].function.parameters"


def test_a_named_tool_of_anthropic_stays_forced() -> None:
    """llama-server reads only an object there; a word would have meant "as you like"."""
    body: dict[str, Any] = {"tools": [CLAUDE], "tool_choice": {"type": "tool", "name": "f"}}
    reconcile(body)
    assert body["tool_choice"] == {"type": "any"}


def test_a_call_wins_over_a_format_that_would_forbid_it() -> None:
    body = {"tools": [TOOL], "tool_choice": "required", "response_format": JSON_SCHEMA}
    reconcile(body)
    assert "response_format" not in body
    empty = {"type": "json_schema", "json_schema": {"schema": {"properties": {}}}}
    body = {"tools": [TOOL], "response_format": empty}
    reconcile(body)
    assert "response_format" not in body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"response_format": {"json_schema": {"schema": SCHEMA}}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": JSON_SCHEMA, "grammar": "x"}, "grammar"),
        ({"json_schema": True}, "json_schema"),
        ({"guided_json": SCHEMA}, "guided_json"),
        ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs"),
        ({"tools": ["f"]}, "tools[0]"),
    ],
)
def test_what_would_be_passed_over_in_silence_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        form(**body)
    assert caught.value.param == field


def test_an_empty_grammar_does_not_undo_a_schema() -> None:
    body: dict[str, Any] = {"prompt": "x", "grammar": "", "json_schema": SCHEMA}
    assert form_of(body, "openai", chat=False) is not None
    assert "grammar" not in body


def test_routes_that_read_no_format_refuse_one() -> None:
    for dialect, chat in (("openai", False), ("native", False), ("anthropic", True)):
        with pytest.raises(BadRequest, match="not supported on this route"):
            form(dialect, chat=chat, response_format=JSON_SCHEMA)  # type: ignore[arg-type]
    assert binding("openai", chat=False, json_schema=SCHEMA).text_param == "json_schema"


def test_another_try_has_another_seed_and_some_warmth() -> None:
    first = json.loads(another_try(b'{"temperature":0,"seed":1,"x":2}'))
    assert (first["temperature"], first["x"]) == (0.5, 2)
    assert first["seed"] != 1
    assert json.loads(another_try(b'{"temperature":0.9}'))["temperature"] == 0.9
    assert "temperature" not in json.loads(another_try(b"{}"))


def chat_answer(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("dialect", "body", "answer"),
    [
        ("openai", chat_answer(content=GOOD), Answer(GOOD)),
        (
            "openai",
            chat_answer(content=None, tool_calls=[{"function": {"name": "f", "arguments": GOOD}}]),
            Answer("", (("f", GOOD),)),
        ),
        ("openai", {"choices": [{"text": "x", "finish_reason": "length"}]}, Answer("x", cut=True)),
        (
            "responses",
            {
                "status": "completed",
                "output": [
                    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": GOOD}]},
                    {"type": "function_call", "name": "f", "arguments": BAD},
                ],
            },
            Answer(GOOD, (("f", BAD),)),
        ),
        ("responses", {"status": "incomplete", "output": []}, Answer(cut=True)),
        (
            "anthropic",
            {
                "stop_reason": "tool_use",
                "content": [
                    {"type": "text", "text": "x"},
                    {"type": "tool_use", "name": "f", "input": {"n": 1}},
                ],
            },
            Answer("x", (("f", {"n": 1}),)),
        ),
        ("anthropic", {"stop_reason": "max_tokens", "content": []}, Answer(cut=True)),
        ("native", {"content": "x", "stop_type": "limit"}, Answer("x", cut=True)),
    ],
)
def test_answers_are_read_in_every_api(dialect: Dialect, body: Any, answer: Answer) -> None:
    assert whole(dialect, json.dumps(body).encode()) == [answer]


def sse(*events: Any) -> list[bytes]:
    return [
        (f"event: {event['type']}\n" if "type" in event else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        for event in events
    ]


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def call(index: int, arguments: str, **name: str) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments, **name}}


@pytest.mark.parametrize(
    ("dialect", "events", "answers"),
    [
        (
            "openai",
            [delta(content='{"n":'), delta(content=" 1}"), delta(finish="stop")],
            [Answer(GOOD)],
        ),
        (
            "openai",
            [delta(1, content="b"), delta(0, content="a"), delta(1, "length"), delta(0, "stop")],
            [Answer("b", cut=True), Answer("a")],
        ),
        (
            "openai",
            [
                delta(tool_calls=[call(0, "", name="f")]),
                delta(tool_calls=[call(0, '{"n"')]),
                delta(tool_calls=[call(1, "{}", name="g")]),
                delta(tool_calls=[call(0, ": 1}")]),
                delta(finish="tool_calls"),
            ],
            [Answer("", (("f", GOOD), ("g", "{}")))],
        ),
        (
            "openai",
            [{"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "stop"}]}],
            [Answer("ab")],
        ),
        (
            "anthropic",
            [
                {"type": "message_start", "message": {}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
                {"type": "content_block_delta", "index": 0, "delta": {"text": "x"}},
                {
                    "type": "content_block_start",
                    "index": 1,
                    "content_block": {"type": "tool_use", "name": "f"},
                },
                {"type": "content_block_delta", "index": 1, "delta": {"partial_json": GOOD}},
                {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            ],
            [Answer("x", (("f", GOOD),))],
        ),
        (
            "native",
            [{"content": "a"}, {"content": "b", "stop": True, "stop_type": "eos"}],
            [Answer("ab")],
        ),
        (
            "responses",
            [
                {"type": "response.output_text.delta", "delta": "x"},
                {
                    "type": "response.completed",
                    "response": {
                        "output": [{"content": [{"type": "output_text", "text": GOOD}]}],
                    },
                },
            ],
            [Answer(GOOD)],
        ),
    ],
)
def test_streams_are_read_in_every_api(
    dialect: Dialect, events: list[Any], answers: list[Answer]
) -> None:
    gathered = Gathered(dialect)
    ended = [answer for block in sse(*events) for answer in gathered.event(block)]
    assert ended == answers
    assert gathered.event(b": a comment") == []
    assert gathered.event(b"data: [DONE]") == []


def stream(text: str, finish: str, at: int) -> tuple[CheckedStream, bytes]:
    """The stream of `text`, fed in two parts that meet at byte `at`; what was passed on."""
    checked = CheckedStream(
        "openai", renaming("a", "b"), None, binding(response_format=JSON_SCHEMA)
    )
    blocks = [*sse(*(delta(content=c) for c in text), delta(finish=finish)), b"data: [DONE]"]
    raw = b"".join(block + b"\n\n" for block in blocks)
    return checked, checked.feed(raw[:at]) + checked.feed(raw[at:])


@pytest.mark.parametrize("at", range(0, 1200, 37))
def test_a_stream_that_fits_passes_whole_and_one_that_does_not_never_ends_well(at: int) -> None:
    for text, finish in ((GOOD, "stop"), (BAD, "length")):
        checked, passed = stream(text, finish, at)
        assert checked.fault is None
        assert checked.complete
        assert passed.endswith(b"data: [DONE]\n\n")
        assert passed.count(b"\n\n") == len(text) + 2

    checked, passed = stream(BAD, "stop", at)
    assert checked.fault is not None
    assert checked.fault.code == "invalid_structured_output"
    assert passed.count(b"\n\n") == len(BAD), "the tokens passed, the end did not"
    assert b"stop" not in passed
    assert b"[DONE]" not in passed
