"""Rows as the tokens that the model is trained on, and which of them it learns.

No skew between training and serving: the text comes from the chat template in the GGUF that will
serve (`template_server`), the tokens from its tokenizer (`tokenizer`). A turn is learned from the
end of the prompt that serving would give the model at that point, through the token that ends it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from corral.datasets.findings import Findings, Place
from corral.datasets.formats.interface import wrapped_tools
from corral.datasets.formats.turns import Dialect, with_call_ids, write_turns
from corral.datasets.rows import Message, Row, trained
from corral.datasets.template_server import Request, Template
from corral.errors import InvalidData


class Tokens(Protocol):
    """What rendering needs of a tokenizer."""

    eos: int | None

    def encode(self, text: str, *, special: bool = True) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def ends_turn(self, token: int) -> bool: ...


class Example(NamedTuple):
    """Tokens and, for each, whether it is learned. `spans` are the learned ranges."""

    tokens: list[int]
    spans: list[tuple[int, int]]

    @property
    def mask(self) -> list[bool]:
        """One flag for each token."""
        flags = [False] * len(self.tokens)
        for begin, end in self.spans:
            flags[begin:end] = [True] * (end - begin)
        return flags

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(end - begin for begin, end in self.spans)


class _Turn(NamedTuple):
    """A learned turn: the prompt that leads to it, and the text through its end."""

    prompt: str
    through: str


class Renderer:
    """Renders rows with a model's template and tokenizer."""

    def __init__(self, template: Template, tokens: Tokens) -> None:
        self._template = template
        self.tokens = tokens

    def render(self, row: Row) -> list[Example]:
        """The examples of a row: one, or one more for each turn that the template shows otherwise
        once the talk goes on (some drop earlier thinking). A preference gives chosen, rejected.

        Raises InvalidData when the template refuses the row, or shows an answer otherwise than
        after its own prompt, so that it could not be learned as it will be served.
        """
        return self.render_many([row])[0]

    def render_many(self, rows: Sequence[Row]) -> list[list[Example]]:
        """`render` for many rows, which costs less for each."""
        chats = [_chats(row) for row in rows]
        requests = [
            request for row in chats for turns, tools in row for request in _requests(turns, tools)
        ]
        texts = iter(self._template.render(requests))
        return [
            [self._text(row.text)]
            if row.kind == "text"
            else [
                example
                for turns, tools in row_chats
                for example in self._chat([next(texts) for _ in _requests(turns, tools)])
            ]
            for row, row_chats in zip(rows, chats, strict=True)
        ]

    def _text(self, text: str) -> Example:
        tokens = self.tokens.encode(text)
        if self.tokens.eos is not None and (not tokens or not self.tokens.ends_turn(tokens[-1])):
            tokens.append(self.tokens.eos)
        return Example(tokens, [(0, len(tokens))])

    def _chat(self, texts: list[str]) -> list[Example]:
        full, pairs = texts[0], texts[1:]
        if len(pairs) % 2:
            pairs.append(full)
        turns = [
            _Turn(prompt, through) for prompt, through in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        whole = Example(self.tokens.encode(full), [])
        apart = []
        for turn in turns:
            if not turn.through.startswith(turn.prompt):
                raise InvalidData(
                    "the chat template shows an answer otherwise than after its own prompt; such a model "
                    "cannot learn from chats without skew. Train on text rows, or mend the template",
                    param="messages",
                    code="template_skew",
                )
            span = self._span(turn, whole.tokens) if full.startswith(turn.through) else None
            if span is not None:
                whole.spans.append(span)
            else:
                apart.append(self._alone(turn))
        return ([whole] if whole.spans or not apart else []) + apart

    def _span(self, turn: _Turn, tokens: list[int]) -> tuple[int, int] | None:
        """Where the turn lies in the whole row; None when its tokens differ there."""
        begin = len(prompt := self.tokens.encode(turn.prompt))
        end = self._end(through := self.tokens.encode(turn.through), begin)
        if tokens[:begin] != prompt or end is None or tokens[:end] != through[:end]:
            return None
        return begin, end

    def _alone(self, turn: _Turn) -> Example:
        """The turn as an example of its own, its prompt exactly as served."""
        prompt = self.tokens.encode(turn.prompt)
        tokens = self.tokens.encode(turn.through)
        begin = len(prompt)
        if tokens[:begin] != prompt:
            # A token reaches over the border; generation starts after the prompt's own tokens.
            answer = turn.through[len(turn.prompt) :]
            tail = self.tokens.encode(answer, special=False)
            if b"".join(map(self.tokens.piece, tail)) != answer.encode():
                raise InvalidData(
                    "the tokenizer joins the prompt's end with the answer's beginning; give the "
                    "answer a beginning that stands alone",
                    param="messages",
                    code="template_skew",
                )
            tokens = prompt + tail
        end = self._end(tokens, begin)
        if end is None:
            tokens = tokens + ([self.tokens.eos] if self.tokens.eos is not None else [])
            end = len(tokens)
        return Example(tokens[:end], [(begin, end)])

    def _end(self, tokens: list[int], begin: int) -> int | None:
        """One past the token that ends the turn; None when the template writes none."""
        for place in range(len(tokens) - 1, begin - 1, -1):
            if self.tokens.ends_turn(tokens[place]):
                return place + 1
        return None


def _chats(row: Row) -> list[tuple[tuple[Message, ...], list[Any] | None]]:
    """The conversations in a row: none for text, two for a preference."""
    if row.kind == "text":
        return []
    if row.kind == "completion":
        return [((Message("user", row.prompt), Message("assistant", row.completion)), None)]
    if row.kind == "chat":
        return [(row.messages, row.tools)]
    before = tuple(
        Message(t.role, t.content, t.tool_calls, t.tool_call_id, t.name, 0, t.extra)
        for t in row.messages
    )
    return [(before + row.chosen, row.tools), (before + row.rejected, row.tools)]


def _requests(turns: tuple[Message, ...], tools: list[Any] | None) -> list[Request]:
    """The whole, then for each learned turn its prompt and the text through it; through the last
    turn, that is the whole again and not asked twice (llama-server takes 3 ms for each)."""
    place = Place(Findings(keep=0), "")
    messages = write_turns(with_call_ids(turns, place), Dialect(), place)
    tools = wrapped_tools(tools, place) if tools else None
    requests = [Request(messages, tools)]
    for number, turn in enumerate(turns):
        if trained(turn):
            requests.append(Request(messages[:number], tools, ask=True))
            if number + 1 < len(turns):
                requests.append(Request(messages[: number + 1], tools))
    return requests
