"""Any row of any shape, through every format: never an exception, never a silent loss."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.datasets import formats
from corral.datasets.answers import fix_answers
from corral.datasets.duplicates import fingerprint
from corral.datasets.near_duplicates import signature
from corral.datasets.rows import Message, Row, ToolCall
from corral.datasets.sensitive import check_sensitive
from corral.datasets.strict_json import encode
from corral.datasets.turn_checks import check_row
from tests.unit.datasets import corpus

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
) | st.sampled_from(["", " ", "Q:x A:y", "{'a': None}", '{"a":1}', "\r\n", "“é”\u2028"])
NAME = st.text("abcdef_", min_size=1, max_size=6)
ARGUMENTS = st.sampled_from(["{}", '{"a" : 1.50}', '{\n"a":[1, 2]}', '{"t":"\\u00e9\\n"}'])
CALLS = st.lists(st.builds(ToolCall, NAME, ARGUMENTS, st.none() | NAME), max_size=2).map(tuple)
PARTS = st.lists(TEXT.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=2)
EXTRA = st.none() | st.dictionaries(
    st.sampled_from(["id", "system", "text", "x"]), st.none() | TEXT, min_size=1, max_size=2
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    role = draw(st.sampled_from(["system", "developer", "user", "assistant", "tool"]))
    content = draw(TEXT | PARTS)
    if role != "assistant":
        return Message(
            role, content, tool_call_id=draw(st.none() | NAME) if role == "tool" else None
        )
    calls: tuple[ToolCall, ...] = draw(CALLS)
    silent: bool = draw(st.booleans())
    weight = draw(st.none() | st.sampled_from([0, 1]))
    return Message(role, None if calls and silent else content, calls, weight=weight)


TURNS = st.lists(messages(), min_size=1, max_size=5).map(tuple)
SIDE = st.builds(lambda text: (Message("assistant", text),), TEXT)
TOOLS = st.none() | st.lists(
    NAME.map(lambda name: {"type": "function", "function": {"name": name}}), max_size=2
)
ROWS = st.one_of(
    st.builds(
        lambda t, tools, e: Row("chat", messages=t, tools=tools, extra=e), TURNS, TOOLS, EXTRA
    ),
    st.builds(
        lambda t, c, r: Row("preference", messages=t, chosen=c, rejected=r), TURNS, SIDE, SIDE
    ),
    st.builds(
        lambda p, c, e: Row("completion", prompt=p, completion=c, extra=e), TEXT, TEXT, EXTRA
    ),
    st.builds(lambda t, e: Row("text", text=t, extra=e), TEXT, EXTRA),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ROWS)
def test_what_a_format_writes_it_reads_as_the_same_row_or_has_said_why_not(row: Row) -> None:
    for name in corpus.NAMES:
        at = corpus.place()
        raw = corpus.write(name, row, at)
        if raw is None:
            assert at.findings.count("loss")
            continue
        again = corpus.read(name, raw, at)
        if again != row:
            reported = (
                at.findings.count("loss") + at.findings.count("note") + at.findings.count("error")
            )
            assert reported, (name, row, again)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "conversations",
                    "from",
                    "value",
                    "contents",
                    "parts",
                    "text",
                    "functionCall",
                    "functionResponse",
                    "args",
                    "response",
                    "input",
                    "instruction",
                    "output",
                    "history",
                    "prompt",
                    "completion",
                    "chosen",
                    "rejected",
                    "tools",
                    "system",
                    "systemInstruction",
                    "preferred_output",
                    "non_preferred_output",
                    "weight",
                    "train",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "conversations",
                "contents",
                "prompt",
                "completion",
                "chosen",
                "rejected",
                "text",
                "input",
                "instruction",
                "output",
                "tools",
                "system",
            ]
        ),
        JSON,
        max_size=4,
    )
)
def test_any_object_gives_a_row_or_an_error_in_every_format(value: dict[str, Any]) -> None:
    raw = encode(value)
    for name, format in formats.FORMATS.items():
        at = corpus.place()
        at.move(1, raw)
        row = format.read(value, at)
        assert (row is None) == at.bad, (name, row)
        assert format.score(value) >= 0
        if row is not None:
            check_row(row, at)
            check_sensitive(row, at)
            fingerprint(row)
            fix_answers(row, at)


@given(TEXT)
def test_a_signature_exists_for_any_text(text: str) -> None:
    assert len(signature(text)) == 64
