"""Rows made to fit: one kind into another, several system turns into one, and what that costs.

Each function returns what the target can take, or None when it cannot take the row at all; both
ways the loss is reported first.
"""

from typing import NamedTuple

import msgspec

from corral.datasets import text_layout
from corral.datasets.findings import Place
from corral.datasets.rows import Content, Message, PlainTurns, Row, text_of


def as_chat(row: Row, place: Place, target: str) -> Row | None:
    """The row as a chat."""
    if row.kind == "chat":
        return row
    if row.kind == "preference":
        place.loss(
            "rejected", "lost_rejected", f"{target} holds one answer; the chosen one is kept"
        )
        return msgspec.structs.replace(
            row, kind="chat", messages=row.messages + row.chosen, chosen=(), rejected=()
        )
    if row.kind == "completion":
        place.note("prompt", "wrapped", "prompt and completion became a user and an assistant turn")
        turns: tuple[Message, ...] = (
            Message("user", row.prompt),
            Message("assistant", row.completion),
        )
    else:
        found = text_layout.split(row.text)
        if found is None:
            place.loss(
                "text",
                "no_turns",
                f"plain text has no turns for {target} (“… Q:… A:…” would); row left out",
            )
            return None
        place.note("text", "split_text", "split into turns at Q: and A:")
        turns = found
    return Row("chat", messages=turns, extra=row.extra)


def as_text(row: Row, place: Place, target: str) -> str | None:
    """The row as plain text; chats in the layout “system Q:… A:…”."""
    if row.kind == "text":
        return row.text
    if row.kind == "completion":
        place.loss("prompt", "lost_boundary", f"{target} does not show where the prompt ends")
        return row.prompt + row.completion
    chat = as_chat(row, place, target)
    if chat is None or not only_text(chat.messages, place, target):
        return None
    lose_weights(chat.messages, place, target)
    lose_names(chat.messages, place, target)
    text = text_layout.join(chat.messages)
    if text is None:
        place.loss(
            "messages",
            "turn_order",
            f"{target} holds a system turn, then user and assistant by turns; row left out",
        )
        return None
    if text_layout.split(text) != tuple(
        Message(turn.role, text_of(turn.content)) for turn in chat.messages
    ):
        place.loss(
            "messages", "lost_boundary", "the turns cannot be told apart again: one holds Q: or A:"
        )
    else:
        place.note("messages", "joined_turns", "turns became one text with Q: and A:")
    return text


class Simple(NamedTuple):
    """A conversation without tools: an optional system text, then (user, assistant) pairs."""

    system: str
    pairs: list[tuple[str, str]]


def as_pairs(row: Row, place: Place, target: str) -> Simple | None:
    """The row for formats that hold a system text and strictly alternating plain turns."""
    plain = plain_talk(row.messages) if row.kind == "chat" else None
    if plain is not None:
        texts = [text_of(turn.content) for turn in plain[1]]
        return Simple(plain[0], list(zip(texts[::2], texts[1::2], strict=True)))
    chat = as_chat(row, place, target)
    if chat is None or not only_text(chat.messages, place, target):
        return None
    lose_weights(chat.messages, place, target)
    lose_names(chat.messages, place, target)
    split = split_system(chat.messages, place, target)
    if split is None:
        return None
    system, turns = split
    roles = [turn.role for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        place.loss(
            "messages",
            "turn_order",
            f"{target} wants user and assistant by turns, an assistant last; row left out",
        )
        return None
    texts = [flat(turn.content, place, f"messages[{number}]") for number, turn in enumerate(turns)]
    return Simple(system, list(zip(texts[::2], texts[1::2], strict=True)))


def plain_talk(turns: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]] | None:
    """System text and turns of the commonest chat: perhaps a system turn, then user and assistant
    by turns, nothing but text. None for any other, which may be as good: then look closer."""
    if type(turns) is not PlainTurns:
        return None
    first = turns[0]
    rest = turns[1:] if first.role == "system" else turns
    if not rest or len(rest) % 2 or (rest is not turns and not first.content):
        return None
    expected = "user"
    for turn in rest:
        if turn.role != expected:
            return None
        expected = "assistant" if expected == "user" else "user"
    return text_of(first.content) if rest is not turns else "", rest


def split_system(
    turns: tuple[Message, ...], place: Place, target: str
) -> tuple[str, tuple[Message, ...]] | None:
    """The system text and the turns after it, for formats with one system field."""
    count = 0
    while count < len(turns) and turns[count].role in ("system", "developer"):
        count += 1
    if any(turn.role in ("system", "developer") for turn in turns[count:]):
        place.loss(
            "messages",
            "system_position",
            f"{target} holds a system turn only at the start; row left out",
        )
        return None
    if any(turn.role == "developer" for turn in turns[:count]):
        place.note("messages[0].role", "renamed_role", "developer became system")
    if count > 1:
        place.loss(
            "messages",
            "joined_system",
            f"{target} holds one system text; {count} were joined by a blank line",
        )
    texts = [flat(turn.content, place, "messages[0]") for turn in turns[:count]]
    if count and not any(texts):
        place.note("messages[0]", "empty_system", "an empty system turn is not written")
    return "\n\n".join(texts), turns[count:]


def developer_as_system(turns: tuple[Message, ...], place: Place) -> tuple[Message, ...]:
    """The turns without OpenAI's developer role, which chat templates do not know."""
    if type(turns) is PlainTurns:
        return turns
    if all(turn.role != "developer" for turn in turns):
        return turns
    place.note("messages", "renamed_role", "developer became system")
    return tuple(
        msgspec.structs.replace(turn, role="system") if turn.role == "developer" else turn
        for turn in turns
    )


def lose_weights(turns: tuple[Message, ...], place: Place, target: str) -> None:
    """Report weights for a format that has none: there, every assistant turn is trained."""
    if type(turns) is PlainTurns:
        return
    for number, turn in enumerate(turns):
        if turn.weight == 0:
            place.loss(
                f"messages[{number}].weight",
                "lost_weight",
                f"weight 0, but {target} would train this turn",
            )
        elif turn.weight is not None:
            place.note(
                f"messages[{number}].weight",
                "default_weight",
                "weight 1 is the default; not written",
            )


def lose_names(turns: tuple[Message, ...], place: Place, target: str) -> None:
    """Report names and unknown keys of turns for a format that holds role and text only."""
    if type(turns) is PlainTurns:
        return
    for number, turn in enumerate(turns):
        if turn.name is not None and turn.role != "tool":
            place.loss(f"messages[{number}].name", "lost_name", f"{target} holds no names")
        for key in turn.extra or ():
            place.loss(
                f"messages[{number}].{key}", "lost_key", f"{target} allows no key {key!r} here"
            )


def lose_call_ids(turns: tuple[Message, ...], place: Place, target: str) -> None:
    """Report tool call ids for a format that links calls and results by their order."""
    if type(turns) is PlainTurns:
        return
    for number, turn in enumerate(turns):
        if turn.tool_call_id is not None or any(call.id is not None for call in turn.tool_calls):
            place.note(
                f"messages[{number}]",
                "call_ids",
                f"{target} holds no tool call ids; order links them",
            )


def only_text(turns: tuple[Message, ...], place: Place, target: str) -> bool:
    """Whether the turns are text without tools; else a loss that says which is not."""
    if type(turns) is PlainTurns:
        return True
    for number, turn in enumerate(turns):
        if turn.tool_calls or turn.role == "tool":
            what = "tool calls" if turn.tool_calls else "tool results"
            place.loss(
                f"messages[{number}]", "lost_tool_calls", f"{target} holds no {what}; row left out"
            )
            return False
    return no_media(turns, place, target)


def no_media(turns: tuple[Message, ...], place: Place, target: str) -> bool:
    """Whether all content is text; else a loss that says where an image, sound or file is."""
    if type(turns) is PlainTurns:
        return True
    for number, turn in enumerate(turns):
        if isinstance(turn.content, list):
            for part in turn.content:
                if part["type"] != "text":
                    place.loss(
                        f"messages[{number}].content",
                        "lost_media",
                        f"{target} holds no {part['type']} part; row left out",
                    )
                    return False
    return True


def flat(content: Content, place: Place, here: str) -> str:
    """Content as one text."""
    if isinstance(content, list):
        place.note(f"{here}.content", "joined_parts", f"{len(content)} text parts became one text")
    return text_of(content)
