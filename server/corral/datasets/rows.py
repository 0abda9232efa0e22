"""What a training row is, whatever format it came from.

Text is kept exactly as it stood, the arguments of tool calls included: they are JSON text here,
never parsed values, for parsing would lose their spacing and the way their numbers are written.
"""

from typing import Any, Literal

import msgspec

Kind = Literal["chat", "preference", "completion", "text"]
Content = str | list[dict[str, Any]] | None


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call that the assistant makes. `arguments` is JSON text of an object."""

    name: str
    arguments: str
    id: str | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One turn. `weight` 0 means: not trained. `extra` has keys that no format documents."""

    role: str
    content: Content = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    weight: float | None = None
    extra: dict[str, Any] | None = None


class PlainTurns(tuple[Message, ...]):
    """Turns known to be nothing but role and text, so that nothing in them can be lost."""

    __slots__ = ()


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One example. `kind` says which of the fields below it are in use.

    chat: `messages`. preference: `messages` (the prompt), `chosen`, `rejected`.
    completion: `prompt`, `completion`. text: `text`.
    """

    kind: Kind
    messages: tuple[Message, ...] = ()
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    prompt: str = ""
    completion: str = ""
    text: str = ""
    tools: list[Any] | None = None
    parallel_tool_calls: bool | None = None
    extra: dict[str, Any] | None = None


def text_of(content: Content) -> str:
    """The text in a message's content; parts that are not text count as nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if isinstance(part.get("text"), str))


def trained(message: Message) -> bool:
    """Whether training learns this turn: an assistant's, unless its weight is 0."""
    return message.role == "assistant" and message.weight != 0


def answers(row: Row) -> list[str]:
    """The texts that training would learn, tool calls included."""
    if row.kind == "completion":
        return [row.completion]
    if row.kind == "text":
        return [row.text]
    turns = row.messages if row.kind == "chat" else row.chosen
    return [answer_text(turn) for turn in turns if trained(turn)]


def answer_text(turn: Message) -> str:
    """One assistant turn as text, for comparing and hashing."""
    calls = "".join(f"\x00{call.name}\x00{call.arguments}" for call in turn.tool_calls)
    return text_of(turn.content) + calls


def question(row: Row) -> str:
    """What is asked, for finding rows with the same prompt: user and tool turns, no system turn.

    Of a chat, everything before its last assistant turn. Text rows have no question.
    """
    if row.kind == "completion":
        return row.prompt
    if row.kind == "text":
        return ""
    turns = row.messages
    if row.kind == "chat":
        last = len(turns) - 1
        while last >= 0 and turns[last].role != "assistant":
            last -= 1
        turns = turns[:last] if last >= 0 else turns
    return "\x00".join(
        answer_text(turn) for turn in turns if turn.role not in ("system", "developer")
    )
