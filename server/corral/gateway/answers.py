"""What an answer says, whichever API it is in: its text, its tool calls, whether it was cut off. Pure.

Only for answers whose form is checked: every event of a stream is parsed here.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.gateway.sse import Dialect


@dataclass(frozen=True)
class Answer:
    """One choice of an answer. Arguments of calls are JSON text, or parsed where the API sends them
    so."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    cut: bool = False


def whole(dialect: Dialect, raw: bytes) -> list[Answer]:
    """The choices of an answer that was not streamed."""
    body = json.loads(raw)
    if dialect == "responses":
        return [_response(body)]
    if dialect == "anthropic":
        return [_message(body)]
    if dialect == "native":
        return [Answer(body.get("content") or "", cut=body.get("stop_type") == "limit")]
    return [_choice(choice) for choice in body.get("choices", ())]


def _choice(choice: Mapping[str, Any]) -> Answer:
    cut = choice.get("finish_reason") == "length"
    if "message" not in choice:
        return Answer(choice.get("text") or "", cut=cut)
    message = choice["message"]
    calls = [call.get("function", {}) for call in message.get("tool_calls") or ()]
    pairs = tuple((call.get("name", ""), call.get("arguments", "")) for call in calls)
    return Answer(message.get("content") or "", pairs, cut)


def _response(body: Mapping[str, Any]) -> Answer:
    items = body.get("output", ())
    parts = [part for item in items for part in item.get("content") or () if "text" in part]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    calls = [item for item in items if item.get("type") == "function_call"]
    pairs = tuple((call.get("name", ""), call.get("arguments", "")) for call in calls)
    return Answer(text, pairs, body.get("status") == "incomplete")


def _message(body: Mapping[str, Any]) -> Answer:
    blocks = body.get("content", ())
    text = "".join(block.get("text", "") for block in blocks if block.get("type") == "text")
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    pairs = tuple((call.get("name", ""), call.get("input")) for call in calls)
    return Answer(text, pairs, body.get("stop_reason") == "max_tokens")


@dataclass
class _Growing:
    """One choice as it comes."""

    text: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))

    def answer(self, cut: bool) -> Answer:
        calls = tuple((name, "".join(self.arguments[at])) for at, name in self.names.items())
        return Answer("".join(self.text), calls, cut)


class Gathered:
    """Takes the events of one stream, and gives each choice when it ends."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._choices: dict[int, _Growing] = defaultdict(_Growing)

    def event(self, block: bytes) -> list[Answer]:
        """The choices that end with this event, one block of a stream without its empty line."""
        _, found, data = block.rpartition(b"data: ")
        if not found or not data.startswith(b"{"):
            return []
        event = json.loads(data)
        if self._dialect == "responses":
            done = event.get("type") in ("response.completed", "response.incomplete")
            return [_response(event["response"])] if done else []
        if self._dialect == "anthropic":
            return self._of_anthropic(event)
        if self._dialect == "native":
            return self._of_native(event)
        return [answer for choice in event.get("choices", ()) for answer in self._of_choice(choice)]

    def _of_choice(self, choice: Mapping[str, Any]) -> list[Answer]:
        growing = self._choices[choice.get("index", 0)]
        delta = choice.get("delta", choice)
        growing.text.append(delta.get("content") or choice.get("text") or "")
        for call in delta.get("tool_calls") or ():
            at, function = call.get("index", 0), call.get("function", {})
            if function.get("name"):
                growing.names[at] = function["name"]
            growing.arguments[at].append(function.get("arguments") or "")
        reason = choice.get("finish_reason")
        return [growing.answer(reason == "length")] if reason else []

    def _of_native(self, event: Mapping[str, Any]) -> list[Answer]:
        self._choices[0].text.append(event.get("content") or "")
        cut = event.get("stop_type") == "limit"
        return [self._choices[0].answer(cut)] if event.get("stop") else []

    def _of_anthropic(self, event: Mapping[str, Any]) -> list[Answer]:
        growing, at = self._choices[0], event.get("index", 0)
        block, delta = event.get("content_block", {}), event.get("delta", {})
        if block.get("type") == "tool_use":
            growing.names[at] = block.get("name", "")
        growing.text.append(delta.get("text") or "")
        growing.arguments[at].append(delta.get("partial_json") or "")
        reason = delta.get("stop_reason")
        return [growing.answer(reason == "max_tokens")] if reason else []
