"""Rendering rows to ids with a template and tokenizer of one letter per token: what goes in, what is left out, what is said."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import stage
from corral.datasets.rendering import Renderer
from corral.datasets.template_server import Request
from corral.errors import InvalidData
from render_data import Limits, write_rows
from token_rows import TokenRows

END = "|"


class Letters:
    """One token for each letter; the bar ends a turn."""

    eos: int | None = ord(END)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def piece(self, token: int) -> bytes:
        return chr(token).encode()

    def ends_turn(self, token: int) -> bool:
        return token == self.eos


class Plain:
    """`u:text|a:text|`, and `a:` where an answer follows. Refuses the word `bad`."""

    def render(self, requests: Iterable[Request]) -> list[str]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> str:
        if any(message["content"] == "bad" for message in request.messages):
            raise InvalidData("the model's chat template refuses these messages", param="messages")
        said = [f"{m['role'][0]}:{m['content']}{END}" for m in request.messages]
        return "".join(said) + ("a:" if request.ask else "")


def chat(*texts: str, **last: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(texts)
    turns: list[dict[str, Any]] = [
        {"role": r, "content": t} for r, t in zip(roles, texts, strict=False)
    ]
    turns[-1] |= last
    return {"messages": turns}


def render(tmp_path: Path, rows: list[Any], limits: Limits = Limits(1000)) -> TokenRows:  # noqa: B008
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    renderer = Renderer(Plain(), Letters())
    write_rows(source, None, renderer, tmp_path / "rows", limits, stage.Reporter(None))
    return TokenRows(tmp_path / "rows")


def learned_text(rows: TokenRows, number: int) -> str:
    row = rows[number]
    return "".join(map(chr, row.ids[row.learned]))


def test_only_answers_are_learned_with_their_end(tmp_path: Path) -> None:
    rows = render(tmp_path, [chat("hi", "yes"), chat("one", "two", "three", "four")])
    assert rows.kind == "chat"
    assert "".join(map(chr, rows[0].ids)) == "u:hi|a:yes|"
    assert [learned_text(rows, 0), learned_text(rows, 1)] == ["yes|", "two|four|"]


def test_a_weight_of_nought_is_not_learned(tmp_path: Path) -> None:
    row = chat("one", "two", "three", "four")
    row["messages"][1]["weight"] = 0
    assert learned_text(render(tmp_path, [row]), 0) == "four|"


def test_a_preference_is_a_pair(tmp_path: Path) -> None:
    answers = {
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "poor"}],
    }
    asked = {"input": {"messages": [{"role": "user", "content": "q"}]}}
    rows = render(tmp_path, [asked | answers])
    assert rows.kind == "preference"
    assert [learned_text(rows, 0), learned_text(rows, 1)] == ["good|", "poor|"]


def test_a_row_that_is_no_chat_is_named(tmp_path: Path) -> None:
    wrong = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": 5}]}
    with pytest.raises(InvalidData, match=r"train\.jsonl:2: messages\[1\]\.content"):
        render(tmp_path, [chat("hi", "yes"), wrong])


def test_a_row_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    rows = [chat("hi", "yes")] * 40 + [chat("bad", "no")] + [chat("hi", "yes")] * 3
    with pytest.raises(InvalidData, match=r"train\.jsonl:41: messages: .*refuses"):
        render(tmp_path, rows)


def test_mixed_rows_are_refused(tmp_path: Path) -> None:
    pair = {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    with pytest.raises(InvalidData):
        render(tmp_path, [pair, chat("hi", "yes")])


def test_long_rows_by_policy(tmp_path: Path) -> None:
    rows = [chat("hi", "yes"), chat("hi", "a longer answer")]
    with pytest.raises(InvalidData, match=r"train\.jsonl:2: messages: 23 tokens, more than the 11"):
        render(tmp_path, rows, Limits(11))
    dropped = render(tmp_path, rows, Limits(11, "drop"))
    assert (len(dropped), dropped.facts["dropped"]) == (1, 1)
    cut = render(tmp_path, rows, Limits(11, "truncate"))
    assert [learned_text(cut, 0), learned_text(cut, 1)] == ["yes|", "a lo"]
    with pytest.raises(InvalidData, match="no row to train on"):
        render(tmp_path, rows, Limits(5, "truncate"))


def test_an_unfinished_render_leaves_no_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidData):
        render(tmp_path, [chat("bad", "no")])
    with pytest.raises(InvalidData, match="holds no token rows"):
        TokenRows(tmp_path / "rows")
