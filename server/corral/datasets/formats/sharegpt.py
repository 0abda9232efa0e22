"""ShareGPT rows as LLaMA-Factory documents them."""

from typing import Any

import msgspec

from corral.datasets.findings import Place, shown
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_optional_text, read_tools
from corral.datasets.formats.turns import read_arguments
from corral.datasets.rows import Message, Row, ToolCall
from corral.datasets.strict_json import encode, valid_object

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
_SPEAKERS = {"user": "human", "assistant": "gpt"}
_ASKS = ("human", "user", "observation", "tool")


class ShareGPT(Format):
    """`{"conversations": [{"from", "value"} …], "system", "tools"}`."""

    name = "sharegpt"
    title = "ShareGPT"
    rules = (
        '{"conversations":[{"from":"human|gpt|function_call|observation","value":"…"} …],',
        ' "system"?:"…", "tools"?:"JSON text of a list"}',
        "human and observation stand on odd places, gpt and function_call on even ones",
        'a function_call value is JSON text: {"name":…, "arguments":{…}}, or a list of those',
        'preferences: conversations end with human; "chosen" and "rejected" are one turn each',
    )
    keys = frozenset(("conversations", "system", "tools", "chosen", "rejected"))

    def score(self, value: dict[str, Any]) -> int:
        turns = value.get("conversations")
        return (
            9
            if isinstance(turns, list)
            and turns
            and isinstance(turns[0], dict)
            and "from" in turns[0]
            else 0
        )

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        items = value.get("conversations")
        if not isinstance(items, list) or not items:
            place.error(
                "conversations",
                "bad_messages",
                f"found {shown(items)}; must be a list with at least one turn",
            )
            return None
        turns = [self._turn(item, f"conversations[{n}]", place) for n, item in enumerate(items)]
        self._check_places(items, place)
        system = read_optional_text(value, "system", place)
        tools = read_tools(value.get("tools"), place)
        sides = [
            (self._turn(value[key], key, place),) if key in value else ()
            for key in ("chosen", "rejected")
        ]
        if place.bad:
            return None
        messages = ((Message("system", system),) if system else ()) + tuple(turns)
        extra = self.extra_of(value)
        if sides[0]:
            return Row(
                "preference",
                messages=messages,
                chosen=sides[0],
                rejected=sides[1],
                tools=tools,
                extra=extra,
            )
        return Row("chat", messages=messages, tools=tools, extra=extra)

    def _turn(self, item: Any, here: str, place: Place) -> Message:
        speaker = item.get("from") if isinstance(item, dict) else None
        text = item.get("value") if isinstance(item, dict) else None
        if not isinstance(speaker, str) or speaker not in ROLES:
            place.error(
                f"{here}.from", "bad_role", f"found {shown(speaker)}; allowed: {', '.join(ROLES)}"
            )
        elif not isinstance(text, str):
            place.error(f"{here}.value", "wrong_type", f"found {shown(text)}; must be text")
        elif speaker == "function_call":
            return Message("assistant", None, self._calls(text, f"{here}.value", place))
        else:
            extra = {key: kept for key, kept in item.items() if key not in ("from", "value")}
            return Message(ROLES[speaker], text, extra=extra or None)
        return Message("user", "")

    def _calls(self, text: str, here: str, place: Place) -> tuple[ToolCall, ...]:
        try:
            pieces = msgspec.json.decode(text, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
            listed = pieces if isinstance(pieces, list) else [msgspec.Raw(text.encode())]
            return tuple(self._call(piece, here, place) for piece in listed)
        except (ValueError, KeyError, RecursionError):
            place.error(
                here,
                "bad_tool_call",
                f'found {shown(text)}; must be JSON text {{"name":…, "arguments":{{…}}}}',
            )
            return ()

    def _call(self, piece: msgspec.Raw, here: str, place: Place) -> ToolCall:
        fields = msgspec.json.decode(piece, type=dict[str, msgspec.Raw])
        name = msgspec.json.decode(fields["name"], type=str)
        raw = bytes(fields["arguments"]).decode().strip()
        if not raw.startswith('"'):
            if not valid_object(raw):
                place.error(here, "bad_arguments", f"found {shown(raw)}; must be an object")
            return ToolCall(name, raw)
        return ToolCall(name, read_arguments(msgspec.json.decode(raw, type=str), place, (here,)))

    def _check_places(self, items: list[Any], place: Place) -> None:
        names = [item.get("from") for item in items if isinstance(item, dict)]
        speakers = [name for name in names if isinstance(name, str) and name != "system"]
        for number, speaker in enumerate(speakers):
            if speaker in ROLES and (speaker in _ASKS) != (number % 2 == 0):
                expected = "human or observation" if number % 2 == 0 else "gpt or function_call"
                place.warning(
                    "conversations",
                    "turn_order",
                    f"turn {number + 1} is {speaker!r}; {expected} stands there",
                )
                return

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        plain = adapt.plain_talk(row.messages) if row.kind == "chat" and row.tools is None else None
        if plain is not None:
            talk = [{"from": _SPEAKERS[turn.role], "value": turn.content} for turn in plain[1]]
            common: dict[str, Any] = {"conversations": talk}
            if plain[0]:
                common["system"] = plain[0]
            return self.with_extra(common, row, place) if row.extra else common
        if row.kind == "preference" and (len(row.chosen) != 1 or len(row.rejected) != 1):
            place.loss(
                "chosen", "many_turns", f"{self.name} holds one turn on each side; row left out"
            )
            return None
        chat = row if row.kind == "preference" else adapt.as_chat(row, place, self.name)
        if chat is None:
            return None
        everything = chat.messages + chat.chosen + chat.rejected
        if not adapt.no_media(everything, place, self.name):
            return None
        adapt.lose_weights(everything, place, self.name)
        adapt.lose_names(everything, place, self.name)
        adapt.lose_call_ids(everything, place, self.name)
        split = adapt.split_system(chat.messages, place, self.name)
        if split is None:
            return None
        return self._value(chat, *split, place)

    def _value(
        self, chat: Row, system: str, turns: tuple[Message, ...], place: Place
    ) -> dict[str, Any] | None:
        written = [self._written(turn, f"messages[{n}]", place) for n, turn in enumerate(turns)]
        if None in written or not self._places_fit(written, chat.kind, place):
            return None
        value: dict[str, Any] = {"conversations": written}
        if system:
            value["system"] = system
        if chat.tools is not None:
            value["tools"] = encode(chat.tools).decode()
        if chat.parallel_tool_calls is not None:
            place.loss("parallel_tool_calls", "lost_key", f"{self.name} has no parallel_tool_calls")
        if chat.kind == "preference":
            value["chosen"] = self._written(chat.chosen[0], "chosen", place)
            value["rejected"] = self._written(chat.rejected[0], "rejected", place)
            if value["chosen"] is None or value["rejected"] is None:
                return None
        return self.with_extra(value, chat, place)

    def _written(self, turn: Message, here: str, place: Place) -> dict[str, Any] | None:
        if turn.role == "tool":
            if turn.name is not None:
                place.note(
                    f"{here}.name", "lost_name", "a result's tool is known by its call; not written"
                )
            return {"from": "observation", "value": adapt.flat(turn.content, place, here)}
        if not turn.tool_calls:
            speaker = "gpt" if turn.role == "assistant" else "human"
            return {"from": speaker, "value": adapt.flat(turn.content, place, here)}
        if turn.content:
            place.loss(
                here,
                "text_beside_call",
                f"{self.name} holds a text or a tool call, not both; row left out",
            )
            return None
        if turn.content is not None:
            place.note(
                f"{here}.content",
                "empty_content",
                "an empty text beside a tool call is not written",
            )
        calls = [
            f'{{"name": {encode(call.name).decode()}, "arguments": {call.arguments}}}'
            for call in turn.tool_calls
        ]
        return {
            "from": "function_call",
            "value": calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]",
        }

    def _places_fit(self, written: list[Any], kind: str, place: Place) -> bool:
        fits = all(
            (turn["from"] in _ASKS) == (number % 2 == 0) for number, turn in enumerate(written)
        )
        even = len(written) % 2 == (1 if kind == "preference" else 0)
        if fits and even and written:
            return True
        place.loss(
            "messages",
            "turn_order",
            f"{self.name} wants asking and answering turns by turns; row left out",
        )
        return False
