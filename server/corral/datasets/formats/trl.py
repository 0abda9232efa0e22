"""TRL's rows: conversational, prompt-completion, preference, plain text."""

from typing import Any

from corral.datasets.findings import Place
from corral.datasets.formats.interface import read_text, read_tools, wrapped_tools
from corral.datasets.formats.messages import MessagesFormat, without_prompt
from corral.datasets.formats.turns import Dialect, read_turns
from corral.datasets.rows import Message, Row, trained


class TRL(MessagesFormat):
    """One shape for each kind of row; TRL wants one shape in a file."""

    name = "trl"
    title = "TRL"
    rules = (
        'chat: {"messages":[…], "tools"?:[…]}, arguments of tool calls as an object',
        'prompt-completion: {"prompt":…, "completion":…}, both text or both lists of turns; '
        "loss on the completion only",
        'preference: {"prompt"?:…, "chosen":…, "rejected":…}; text: {"text":"…"}',
        "no weights; where only the last answer of a chat is trained, it is written as "
        "prompt-completion, which says the same",
        "SFTTrainer learns every turn of messages unless assistant_only_loss=True",
    )
    keys = frozenset(("messages", "tools", "prompt", "completion", "chosen", "rejected", "text"))
    dialect = Dialect(arguments_as_object=True)

    def score(self, value: dict[str, Any]) -> int:
        if "chosen" in value and "rejected" in value:
            own = value.keys().isdisjoint(("conversations", "instruction", "messages"))
            return (
                6 if own and (_is_turns(value["chosen"]) or isinstance(value["chosen"], str)) else 0
            )
        if _is_turns(value.get("prompt")) and "completion" in value:
            return 9
        return 6 if _has_object_arguments(value.get("messages")) else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        if "chosen" in value:
            return self._read_preference(value, place)
        if "completion" in value:
            return self._read_completion(value, place)
        if "text" in value and "messages" not in value:
            text = read_text(value, "text", place)
            return None if place.bad else Row("text", text=text, extra=self.extra_of(value))
        return self.read_chat(value, place)

    def _read_completion(self, value: dict[str, Any], place: Place) -> Row | None:
        if isinstance(value.get("prompt"), str):
            prompt, completion = (
                read_text(value, "prompt", place),
                read_text(value, "completion", place),
            )
            if place.bad:
                return None
            return Row(
                "completion", prompt=prompt, completion=completion, extra=self.extra_of(value)
            )
        prompt_turns = read_turns(value.get("prompt"), place, "prompt")
        answer = read_turns(value["completion"], place, "completion")
        tools = read_tools(value.get("tools"), place)
        if place.bad:
            return None
        return Row(
            "chat",
            messages=_untrained(prompt_turns) + answer,
            tools=tools,
            extra=self.extra_of(value),
        )

    def _read_preference(self, value: dict[str, Any], place: Place) -> Row | None:
        value = {key: _as_turns(item, key) for key, item in value.items()}
        prompt = read_turns(value["prompt"], place, "prompt") if value.get("prompt") else ()
        chosen, rejected = self.preference(value, place)
        tools = read_tools(value.get("tools"), place)
        if place.bad:
            return None
        row = Row(
            "preference",
            messages=prompt,
            chosen=chosen,
            rejected=rejected,
            tools=tools,
            extra=self.extra_of(value),
        )
        return row if prompt else without_prompt(row)

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        if row.kind == "text":
            return self.with_extra({"text": row.text}, row, place)
        if row.kind == "completion":
            return self.with_extra({"prompt": row.prompt, "completion": row.completion}, row, place)
        if row.kind == "preference":
            value = {
                "prompt": self.turns(row.messages, place),
                "chosen": self.turns(row.chosen, place),
                "rejected": self.turns(row.rejected, place),
            }
        elif _only_last_trained(row.messages):
            place.note(
                "messages",
                "prompt_completion",
                "only the last answer is trained: written as prompt-completion",
            )
            bare = tuple(_without_weight(turn) for turn in row.messages)
            value = {
                "prompt": self.turns(bare[:-1], place),
                "completion": self.turns(bare[-1:], place),
            }
        else:
            return super().write(row, place)
        if row.tools is not None:
            value["tools"] = wrapped_tools(row.tools, place)
        if row.parallel_tool_calls is not None:
            self.write_parallel(value, row.parallel_tool_calls, place)
        return self.with_extra(value, row, place)


def _is_turns(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and "role" in value[0]
    )


def _has_object_arguments(turns: Any) -> bool:
    if not isinstance(turns, list):
        return False
    for turn in turns:
        for call in (isinstance(turn, dict) and turn.get("tool_calls")) or ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                return isinstance(call["function"].get("arguments"), dict)
    return False


def _as_turns(item: Any, key: str) -> Any:
    """Standard (text) preferences as turns: the prompt a user's, the sides an assistant's."""
    if not isinstance(item, str) or key not in ("prompt", "chosen", "rejected"):
        return item
    return [{"role": "user" if key == "prompt" else "assistant", "content": item}]


def _only_last_trained(turns: tuple[Message, ...]) -> bool:
    return (
        bool(turns)
        and trained(turns[-1])
        and sum(trained(turn) for turn in turns) == 1
        and any(turn.weight == 0 for turn in turns)
    )


def _untrained(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(
        Message(
            turn.role, turn.content, turn.tool_calls, turn.tool_call_id, turn.name, 0, turn.extra
        )
        if turn.role == "assistant"
        else turn
        for turn in turns
    )


def _without_weight(turn: Message) -> Message:
    return Message(
        turn.role, turn.content, turn.tool_calls, turn.tool_call_id, turn.name, None, turn.extra
    )
