"""Which tokens of a row are learned, with a template and a tokenizer in a few lines."""

from collections.abc import Iterable

import pytest

from corral.datasets import counting
from corral.datasets.rendering import Example, Renderer
from corral.datasets.rows import Message, Row, ToolCall
from corral.datasets.template_server import Request
from corral.errors import InvalidData

END = 0


class Characters:
    """One token a character; `^` ends a turn. Reads `ab` as one token where asked to."""

    eos: int | None = END

    def __init__(self, joined: str = "") -> None:
        self.joined = joined

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        tokens = []
        while text:
            step = len(self.joined) if self.joined and text.startswith(self.joined) else 1
            tokens.append(END if text[0] == "^" else 1000 if step > 1 else ord(text[0]))
            text = text[step:]
        return tokens

    def piece(self, token: int) -> bytes:
        return {END: b"^", 1000: self.joined.encode()}.get(token) or chr(token).encode()

    def ends_turn(self, token: int) -> bool:
        return token == END


class Plain:
    """`U:text^` and `A:text^`, a line each. `forgets`: earlier answers lose their text."""

    def __init__(self, forgets: bool = False, end: str = "^\n") -> None:
        self.forgets = forgets
        self.end = end

    def render(self, requests: Iterable[Request]) -> list[str]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> str:
        text = "T" if request.tools else ""
        last = max((n for n, m in enumerate(request.messages) if m["role"] == "user"), default=-1)
        for number, message in enumerate(request.messages):
            content = message["content"] or "".join(
                c["function"]["arguments"] for c in message.get("tool_calls", ())
            )
            if self.forgets and message["role"] == "assistant" and number < last:
                content = "…"
            text += f"{message['role'][0].upper()}:{content}{self.end}"
        return text + ("A:" if request.ask else "")


def learned(example: Example, tokens: Characters) -> list[str]:
    return [b"".join(map(tokens.piece, example.tokens[a:b])).decode() for a, b in example.spans]


def chat(*turns: tuple[str, str] | Message) -> Row:
    return Row("chat", messages=tuple(t if isinstance(t, Message) else Message(*t) for t in turns))


TALK = chat(
    ("system", "s"), ("user", "q"), ("assistant", "one"), ("user", "r"), ("assistant", "two")
)


def test_answers_and_the_token_that_ends_them_are_learned() -> None:
    tokens = Characters()
    [example] = Renderer(Plain(), tokens).render(TALK)
    assert learned(example, tokens) == ["one^", "two^"]
    assert example.learned == 8
    assert sum(example.mask) == 8
    assert len(example.mask) == len(example.tokens)


def test_a_turn_of_weight_0_is_read_but_not_learned() -> None:
    tokens = Characters()
    row = chat(
        ("user", "q"), Message("assistant", "one", weight=0), ("user", "r"), ("assistant", "two")
    )
    [example] = Renderer(Plain(), tokens).render(row)
    assert learned(example, tokens) == ["two^"]
    assert "one" in b"".join(map(tokens.piece, example.tokens)).decode()


def test_tool_calls_are_learned_and_their_text_is_kept() -> None:
    tokens = Characters()
    call = Message("assistant", None, (ToolCall("f", '{"a" : 1.10}'),))
    row = chat(("user", "q"), call, ("tool", "r"), ("assistant", "done"))
    [example] = Renderer(Plain(), tokens).render(row)
    assert learned(example, tokens) == ['{"a" : 1.10}^', "done^"]


def test_a_template_that_forgets_gives_earlier_turns_an_example_of_their_own() -> None:
    tokens = Characters()
    examples = Renderer(Plain(forgets=True), tokens).render(TALK)
    assert [learned(example, tokens) for example in examples] == [["two^"], ["one^"]]
    assert b"".join(map(tokens.piece, examples[1].tokens)).decode() == "S:s^\nU:q^\nA:one^"


def test_a_template_without_an_end_gets_the_models_own() -> None:
    tokens = Characters()
    [example] = Renderer(Plain(end="\n"), tokens).render(chat(("user", "q"), ("assistant", "a")))
    assert learned(example, tokens) == ["a\n^"]


def test_a_token_over_the_border_never_changes_the_prompt() -> None:
    tokens = Characters(joined=":a")
    [example] = Renderer(Plain(), tokens).render(chat(("user", "q"), ("assistant", "abc")))
    assert learned(example, tokens) == ["abc^"]
    assert example.tokens[: -len("abc^")] == tokens.encode("U:q^\nA:")


def test_a_template_that_shows_answers_otherwise_is_refused() -> None:
    class Skewed(Plain):
        def _one(self, request: Request) -> str:
            return (
                super()._one(request).replace("A:", "A: <think>")
                if request.ask
                else super()._one(request)
            )

    with pytest.raises(InvalidData, match="skew"):
        Renderer(Skewed(), Characters()).render(TALK)


def test_completions_texts_and_preferences() -> None:
    tokens = Characters()
    renderer = Renderer(Plain(), tokens)
    [completion] = renderer.render(Row("completion", prompt="p", completion="c"))
    assert learned(completion, tokens) == ["c^"]
    [text] = renderer.render(Row("text", text="all"))
    assert learned(text, tokens) == ["all^"]
    sides = Row(
        "preference",
        messages=(Message("user", "q"), Message("assistant", "x"), Message("user", "r")),
        chosen=(Message("assistant", "good"),),
        rejected=(Message("assistant", "bad"),),
    )
    assert [learned(example, tokens) for example in renderer.render(sides)] == [["good^"], ["bad^"]]


def test_many_rows_give_what_single_rows_give() -> None:
    renderer = Renderer(Plain(), Characters())
    rows = [TALK, Row("text", text="t"), Row("completion", prompt="p", completion="c"), TALK]
    assert renderer.render_many(rows) == [renderer.render(row) for row in rows]


def test_counts_and_epochs() -> None:
    sizes = counting.Sizes()
    for line, size in enumerate([10, 20, 30, 1000], 1):
        sizes.add(line, size, size // 10)
    counts = sizes.counts(context=100)
    assert (counts.tokens, counts.trained_tokens, counts.longest, counts.longest_line) == (
        1060,
        106,
        1000,
        4,
    )
    assert counts.over_context == 1
    assert sum(n for _, _, n in counts.lengths) == 4
    scaled = sizes.counts(all_rows=8)
    assert (scaled.tokens, scaled.sampled) == (2120, 4)
    assert [counting.suggested_epochs(n) for n in (3, 10, 34, 1000, 10_000, 100_000)] == [
        25,
        10,
        3,
        3,
        2,
        1,
    ]
