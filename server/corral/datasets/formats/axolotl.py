"""Axolotl's chat_template and completion rows."""

from typing import Any

from corral.datasets.findings import Place
from corral.datasets.formats.interface import wrapped_tools
from corral.datasets.formats.messages import MessagesFormat
from corral.datasets.formats.mlx import PlainText
from corral.datasets.formats.sharegpt import ROLES as SHAREGPT_ROLES
from corral.datasets.formats.turns import Dialect
from corral.datasets.rows import Row


class AxolotlChat(MessagesFormat):
    """`type: chat_template` rows, with `train` on turns; preferences as chat_template.default."""

    name = "axolotl"
    title = "Axolotl chat_template"
    rules = (
        '{"messages":[{"role","content","train"?:true|false} …], "tools"?:[…]}',
        'preferences: {"messages":[…], "chosen":turn, "rejected":turn}',
        "in the YAML: type: chat_template, field_messages: messages, message_field_training: train",
        "read as well: conversations with role and content, or from and value",
    )
    keys = frozenset(("messages", "conversations", "tools", "chosen", "rejected"))
    dialect = Dialect(weight_key="train")

    def score(self, value: dict[str, Any]) -> int:
        turns = value.get("messages", value.get("conversations"))
        if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
            return 0
        if isinstance(value.get("chosen"), dict) and "role" in value["chosen"]:
            return 8
        if any(isinstance(turn, dict) and "train" in turn for turn in turns):
            return 8
        return 7 if "messages" not in value and "role" in turns[0] else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        key = (
            "conversations" if "messages" not in value and "conversations" in value else "messages"
        )
        if key == "conversations":
            value = {**value, key: [_renamed(turn) for turn in _list(value[key])]}
        row = self.read_chat(value, place, key)
        if row is None or "chosen" not in value:
            return row
        chosen, rejected = self.preference(value, place)
        if place.bad:
            return None
        return Row(
            "preference",
            messages=row.messages,
            chosen=chosen,
            rejected=rejected,
            tools=row.tools,
            extra=row.extra,
        )

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        if row.kind != "preference":
            return super().write(row, place)
        if len(row.chosen) != 1 or len(row.rejected) != 1:
            place.loss("chosen", "many_turns", "axolotl holds one turn on each side; row left out")
            return None
        value: dict[str, Any] = {
            "messages": self.turns(row.messages, place),
            "chosen": self.turns(row.chosen, place)[0],
            "rejected": self.turns(row.rejected, place)[0],
        }
        if row.tools is not None:
            value["tools"] = wrapped_tools(row.tools, place)
        if row.parallel_tool_calls is not None:
            self.write_parallel(value, row.parallel_tool_calls, place)
        return self.with_extra(value, row, place)


class AxolotlCompletion(PlainText):
    """`type: completion` rows."""

    name = "axolotl-completion"
    title = "Axolotl completion"
    rules = (
        '{"text":"…"}; every token is trained; in the YAML: type: completion',
        "the same rows as mlx-text",
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _renamed(turn: Any) -> Any:
    """A from/value turn with Axolotl's default property names."""
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    named = {key: item for key, item in turn.items() if key not in ("from", "value")}
    return {
        "role": SHAREGPT_ROLES.get(str(turn["from"]), turn["from"]),
        "content": turn.get("value"),
        **named,
    }
