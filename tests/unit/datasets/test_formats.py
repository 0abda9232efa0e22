"""What each format writes and reads, value by value."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import TypeAdapter

from corral.datasets import formats
from corral.datasets.formats.messages import MessagesFormat
from corral.datasets.rows import Message, PlainTurns, Row, ToolCall
from corral.datasets.strict_json import encode
from tests.unit.datasets import corpus

SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
CALL = ToolCall("search", '{"q" : "x", "n":1.10 }', "call_1")
TALK = Row(
    "chat",
    messages=(
        Message("system", "Be brief."),
        Message("user", "find x"),
        Message("assistant", None, (CALL,)),
        Message("tool", "[1]", tool_call_id="call_1"),
        Message("assistant", "one"),
    ),
    tools=[SEARCH],
)


def written(name: str, row: Row) -> Any:
    """A row as a format writes it, after JSON."""
    at = corpus.place()
    raw = corpus.write(name, row, at)
    return None if raw is None else json.loads(raw)


def test_openai_writes_arguments_as_text_and_needs_ids() -> None:
    row = Row(
        "chat",
        messages=(*TALK.messages[:2], Message("assistant", None, (ToolCall("search", "{}"),))),
    )
    assert written("openai", row)["messages"][2]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    ]


def test_trl_and_mlx_write_arguments_as_an_object_byte_for_byte() -> None:
    for name in ("trl", "mlx"):
        raw = corpus.write(name, TALK, corpus.place())
        assert raw is not None
        assert b'"arguments":{"q" : "x", "n":1.10 }' in raw


def test_line_breaks_in_arguments_do_not_break_jsonl() -> None:
    row = Row("chat", messages=(Message("assistant", None, (ToolCall("f", '{\n "a": 1.50\n}'),)),))
    at = corpus.place()
    raw = corpus.write("trl", row, at)
    assert raw is not None
    assert b"\n" not in raw
    assert b'{"a":1.50}' in raw
    assert "respaced" in corpus.codes(at)


def test_sharegpt_shape() -> None:
    value = written("sharegpt", TALK)
    assert value["system"] == "Be brief."
    assert [turn["from"] for turn in value["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]
    assert (
        value["conversations"][1]["value"]
        == '{"name": "search", "arguments": {"q" : "x", "n":1.10 }}'
    )
    assert json.loads(value["tools"]) == [SEARCH]


def test_gemini_shape() -> None:
    value = written("gemini", TALK)
    assert value["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert [turn["role"] for turn in value["contents"]] == ["user", "model", "user", "model"]
    assert value["contents"][1]["parts"] == [
        {"functionCall": {"name": "search", "args": {"q": "x", "n": 1.1}}}
    ]
    response = {"functionResponse": {"name": "search", "response": {"output": "[1]"}}}
    assert value["contents"][2]["parts"] == [response]
    assert value["tools"] == [{"functionDeclarations": [SEARCH["function"]]}]


def test_bedrock_refuses_tools_and_keeps_the_plain_rest() -> None:
    at = corpus.place()
    assert corpus.write("bedrock", TALK, at) is None
    assert "lost_tool_calls" in corpus.codes(at)
    plain = Row(
        "chat", messages=(Message("system", "s"), Message("user", "q"), Message("assistant", "a"))
    )
    assert written("bedrock", plain) == {
        "system": "s",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    }


def test_alpaca_puts_earlier_turns_in_history() -> None:
    turns = [
        Message(r, c)
        for r, c in (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
    ]
    assert written("alpaca", Row("chat", messages=tuple(turns))) == {
        "instruction": "3",
        "input": "",
        "output": "4",
        "history": [["1", "2"]],
    }


def test_axolotl_carries_weights_as_train() -> None:
    row = Row("chat", messages=(Message("user", "q"), Message("assistant", "a", weight=0)))
    assert written("axolotl", row)["messages"][1] == {
        "role": "assistant",
        "content": "a",
        "train": False,
    }


def test_trl_carries_weights_that_leave_the_last_answer_as_prompt_completion() -> None:
    turns = (
        Message("user", "1"),
        Message("assistant", "2", weight=0),
        Message("user", "3"),
        Message("assistant", "4"),
    )
    value = written("trl", Row("chat", messages=turns))
    assert list(value) == ["prompt", "completion"]
    assert value["completion"] == [{"role": "assistant", "content": "4"}]


@pytest.mark.parametrize("name", ["mlx", "sharegpt", "alpaca", "gemini", "bedrock", "mlx-text"])
def test_a_turn_that_must_not_be_trained_is_reported_where_weights_are_unknown(name: str) -> None:
    turns = (
        Message("user", "1"),
        Message("assistant", "2", weight=0),
        Message("user", "3"),
        Message("assistant", "4"),
    )
    at = corpus.place()
    corpus.write(name, Row("chat", messages=turns), at)
    assert [f.field for f in at.findings.kept if f.code == "lost_weight"] == ["messages[1].weight"]


@pytest.mark.parametrize(
    "name", ["alpaca", "bedrock", "mlx-text", "prompt-completion", "axolotl-completion"]
)
def test_tool_definitions_are_reported_where_there_is_no_place(name: str) -> None:
    row = Row("chat", messages=(Message("user", "q"), Message("assistant", "a")), tools=[SEARCH])
    at = corpus.place()
    assert corpus.write(name, row, at) is not None
    assert "lost_tools" in corpus.codes(at)


def test_an_extra_key_never_takes_a_key_of_the_target() -> None:
    row = Row(
        "chat",
        messages=(Message("user", "q"), Message("assistant", "a")),
        extra={"system": "S", "id": 1},
    )
    at = corpus.place()
    value = formats.get("sharegpt").write(row, at)
    assert value is not None
    assert "system" not in value
    assert value["id"] == 1
    assert [f.field for f in at.findings.kept] == ["system"]


@pytest.mark.parametrize(
    "name", [name for name in corpus.NAMES if name not in ("mlx", "axolotl-completion")]
)
def test_a_corpus_is_detected_as_its_format(name: str) -> None:
    found = formats.detect([json.loads(raw) for raw in corpus.lines(name)])
    assert found is not None
    assert found.name == name


def test_openai_rows_from_everywhere_are_what_the_sdk_types_say() -> None:
    message, tool = (
        TypeAdapter(ChatCompletionMessageParam),
        TypeAdapter(ChatCompletionFunctionToolParam),
    )
    checked = 0
    for name in corpus.NAMES:
        for raw in corpus.lines(name):
            row = corpus.read(name, raw, corpus.place())
            assert row is not None
            out = corpus.write("openai", row, corpus.place())
            if out is None:
                continue
            value = json.loads(out)
            for turn in value["messages"]:
                # Extra keys of a turn are the row's own; the rest must validate, calls included.
                met = message.validate_python({k: v for k, v in turn.items() if k != "weight"})
                for call in met.get("tool_calls") or ():  # type: ignore[attr-defined]
                    assert call["function"]["arguments"]
            for item in value.get("tools", ()):
                tool.validate_python(item)
            checked += 1
    assert checked >= 50


PLAIN = [
    b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}',
    b'{ "messages" : [ {"content": "q\\"\\n\\u00e9", "role": "user"}, {"role":"assistant","content":"{\\"a\\": 1}"}]}',
    b'{"messages":[{"role":"system","content":""},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}',
]
NOT_PLAIN = [
    b'{"messages":[]}',
    b'{"messages":[{"role":"user","content":null}]}',
    b'{"messages":[{"role":"user","content":"a","content":"b"}]}',
    b'{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}',
    b'{"messages":[{"role":"user","content":"a","name":"n"}]}',
    b'{"messages":[{"role":"user","content":"a"}],"tools":[]}',
    b'{"messages":[{"role":"user","content":"a\\u0000"}]}',
    b'{"messages":[{"role":"user","content":"a\\\\"}]}',
    b'[{"messages":[{"role":"user","content":"a"}]}]',
    b'{"messages":[{"role":"user","content":"a"}]} {"messages":[{"role":"user","content":"b"}]}',
]


def test_the_short_cut_reads_plain_rows_as_the_long_way_does() -> None:
    plain = MessagesFormat.read_plain
    for name in ("openai", "mlx", "trl", "axolotl"):
        format = formats.get(name)
        rows = format.read_plain(PLAIN, b"\n".join(PLAIN) + b"\n")
        assert rows == [corpus.read(name, raw, corpus.place()) for raw in PLAIN]
        assert rows is not None
        assert all(type(row.messages) is PlainTurns for row in rows)
        assert type(format).read_plain is plain


@pytest.mark.parametrize("raw", NOT_PLAIN)
def test_the_short_cut_leaves_all_other_rows_to_the_long_way(raw: bytes) -> None:
    lines = [PLAIN[0], raw]
    assert formats.get("openai").read_plain(lines, b"\n".join(lines) + b"\n") is None


def test_two_rows_on_a_line_are_not_taken_for_two_lines() -> None:
    lines = [PLAIN[0] + b" " + PLAIN[0], b""]
    assert formats.get("openai").read_plain(lines, b"\n".join(lines)) is None


def test_writers_treat_plain_turns_as_any_others() -> None:
    turns = [Message("system", "s"), Message("user", "q"), Message("assistant", "a")]
    odd = [Message("user", "q"), Message("system", "s"), Message("assistant", "a")]
    for chosen in (turns, turns[1:], odd, turns[:2], turns[:1]):
        for name in corpus.NAMES:
            fast, slow = corpus.place(), corpus.place()
            one = corpus.write(name, Row("chat", messages=PlainTurns(chosen)), fast)
            other = corpus.write(name, Row("chat", messages=tuple(chosen)), slow)
            assert one == other
            assert fast.findings.summary() == slow.findings.summary()


@pytest.mark.parametrize(
    ("name", "value", "field", "code"),
    [
        ("openai", {"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role", "bad_role"),
        ("openai", {"messages": [{"content": "x"}]}, "messages[0].role", "bad_role"),
        (
            "openai",
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
            "bad_content",
        ),
        ("openai", {"messages": [{"role": "user"}]}, "messages[0].content", "missing_content"),
        ("openai", {"messages": "hi"}, "messages", "bad_messages"),
        ("openai", {"messages": []}, "messages", "bad_messages"),
        ("openai", {"text": "x"}, "messages", "missing_field"),
        (
            "openai",
            {"messages": [{"role": "assistant", "content": "x", "weight": 2}]},
            "messages[0].weight",
            "bad_weight",
        ),
        (
            "openai",
            {"messages": [{"role": "user", "content": "x"}], "tools": [{}]},
            "tools[0]",
            "bad_tool",
        ),
        (
            "openai-dpo",
            {"input": {"messages": [{"role": "user", "content": "x"}]}},
            "preferred_output",
            "missing_field",
        ),
        ("prompt-completion", {"prompt": "x"}, "completion", "missing_field"),
        (
            "sharegpt",
            {"conversations": [{"from": "me", "value": "x"}]},
            "conversations[0].from",
            "bad_role",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "function_call", "value": "x"}]},
            "conversations[0].value",
            "bad_tool_call",
        ),
        ("alpaca", {"instruction": "x", "output": None}, "output", "wrong_type"),
        (
            "gemini",
            {"contents": [{"role": "user", "parts": [{"video": 1}]}]},
            "contents[0].parts[0]",
            "bad_content",
        ),
        ("bedrock", {"messages": [{"role": "user", "content": "x"}]}, "messages", "turn_order"),
        ("mlx-text", {"text": 7}, "text", "wrong_type"),
        ("trl", {"prompt": 3, "completion": "x"}, "prompt", "bad_messages"),
    ],
)
def test_an_error_names_the_field_and_what_was_found(
    name: str, value: Any, field: str, code: str
) -> None:
    at = corpus.place()
    assert corpus.read(name, encode(value), at) is None
    first = at.findings.kept[0]
    assert (first.field, first.code, first.severity) == (field, code, "error")
    assert "found" in first.message or "missing" in first.message


def test_bad_arguments_are_an_error_with_their_path() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{'a': 1}"}}
    at = corpus.place()
    assert (
        corpus.read(
            "openai",
            encode({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}),
            at,
        )
        is None
    )
    assert at.findings.kept[0].field == "messages[0].tool_calls[0].function.arguments"


def test_several_errors_of_a_row_come_in_one_pass() -> None:
    at = corpus.place()
    value = {"messages": [{"role": "bot", "content": "x"}, {"role": "user", "content": 1}, 7]}
    assert corpus.read("openai", encode(value), at) is None
    assert [f.field for f in at.findings.kept] == [
        "messages[0].role",
        "messages[1].content",
        "messages[2]",
    ]
