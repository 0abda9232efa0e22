"""Gemini tuning rows (Vertex AI): `contents` with parts."""

from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats import adapt
from corral.datasets.formats.gemini_parts import content_of, is_text, read_content, write_content
from corral.datasets.formats.interface import Format
from corral.datasets.formats.turns import raw_object
from corral.datasets.rows import Message, Row
from corral.datasets.strict_json import encode


class Gemini(Format):
    """`{"systemInstruction", "contents": [{"role", "parts"} …], "tools"}`."""

    name = "gemini"
    title = "Gemini contents"
    rules = (
        '{"systemInstruction"?:{"parts":[{"text"}]}, "contents":[{"role":"user|model","parts":[…]} …], "tools"?}',
        "a part is text, fileData, inlineData, functionCall {name, args} or functionResponse {name, response}",
        'tools: [{"functionDeclarations":[{"name","description","parameters"} …]}]',
        'no weights, no call ids, no other keys; text results are written as {"output": text}',
    )
    keys = frozenset(("systemInstruction", "system_instruction", "contents", "tools"))
    holds_extra = False

    def score(self, value: dict[str, Any]) -> int:
        return 10 if isinstance(value.get("contents"), list) else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        items = value.get("contents")
        if not isinstance(items, list) or not items:
            place.error(
                "contents",
                "bad_messages",
                f"found {shown(items)}; must be a list with at least one turn",
            )
            return None
        turns = self._system(value, place)
        for number, item in enumerate(items):
            turns += read_content(item, number, place)
        tools = self._tools(value.get("tools"), place)
        if place.bad:
            return None
        return Row("chat", messages=tuple(turns), tools=tools, extra=self.extra_of(value))

    def _system(self, value: dict[str, Any], place: Place) -> list[Message]:
        item = value.get("systemInstruction", value.get("system_instruction"))
        if item is None:
            return []
        parts = item.get("parts") if isinstance(item, dict) else None
        if not isinstance(parts, list) or not all(is_text(part) for part in parts):
            place.error(
                "systemInstruction",
                "wrong_type",
                f'found {shown(item)}; must be {{"parts":[{{"text":…}}]}}',
            )
            return []
        texts = [{"type": "text", "text": part["text"]} for part in parts]
        return [Message("system", content_of(texts))]

    def _tools(self, items: Any, place: Place) -> list[Any] | None:
        if items is None:
            return None
        if not isinstance(items, list):
            place.error("tools", "wrong_type", f"found {shown(items)}; must be a list")
            return None
        tools = []
        for number, item in enumerate(items):
            names = ("functionDeclarations", "function_declarations")
            listed = next(
                (item[name] for name in names if isinstance(item, dict) and name in item), None
            )
            if not isinstance(listed, list):
                place.error(
                    f"tools[{number}]",
                    "bad_tool",
                    f"found {shown(item)}; only functionDeclarations are known",
                )
                continue
            tools += [{"type": "function", "function": function} for function in listed]
        return tools

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        chat = adapt.as_chat(row, place, self.name)
        if chat is None:
            return None
        adapt.lose_weights(chat.messages, place, self.name)
        adapt.lose_names(chat.messages, place, self.name)
        adapt.lose_call_ids(chat.messages, place, self.name)
        split = adapt.split_system(chat.messages, place, self.name)
        if split is None:
            return None
        contents = self._contents(split[1], place)
        if contents is None:
            return None
        value: dict[str, Any] = {"contents": contents}
        if split[0]:
            value = {
                "systemInstruction": {"role": "system", "parts": [{"text": split[0]}]},
                **value,
            }
        if chat.tools is not None:
            value["tools"] = self._declarations(chat.tools, place)
        if chat.parallel_tool_calls is not None:
            place.loss("parallel_tool_calls", "lost_key", f"{self.name} has no parallel_tool_calls")
        return self.with_extra(value, chat, place)

    def _contents(self, turns: tuple[Message, ...], place: Place) -> list[dict[str, Any]] | None:
        contents: list[dict[str, Any]] = []
        names: dict[str | None, str] = {
            call.id: call.name for turn in turns for call in turn.tool_calls if call.id
        }
        pending = [call.name for turn in turns for call in turn.tool_calls]
        after_result = False
        for number, turn in enumerate(turns):
            parts = self._parts(turn, f"messages[{number}]", names, pending, place)
            if parts is None:
                return None
            if turn.role == "tool" and after_result:
                contents[-1]["parts"] += parts
            else:
                contents.append(
                    {"role": "model" if turn.role == "assistant" else "user", "parts": parts}
                )
            after_result = turn.role == "tool"
        return contents

    def _parts(
        self,
        turn: Message,
        here: str,
        names: dict[str | None, str],
        pending: list[str],
        place: Place,
    ) -> list[dict[str, Any]] | None:
        if turn.role == "tool":
            name = (
                turn.name or names.get(turn.tool_call_id) or (pending.pop(0) if pending else None)
            )
            if name is None:
                place.loss(
                    here,
                    "unknown_tool",
                    f"{self.name} needs the tool's name with a result; row left out",
                )
                return None
            if turn.name is None:
                place.note(f"{here}.name", "named_result", f"the tool's name, {name!r}, was added")
            response = {"output": adapt.flat(turn.content, place, here)}
            return [{"functionResponse": {"name": name, "response": response}}]
        parts = write_content(turn.content, here, place)
        if parts is None:
            return None
        for index, call in enumerate(turn.tool_calls):
            args = raw_object(
                call.arguments, place, f"{here}.tool_calls[{index}].function.arguments"
            )
            parts.append({"functionCall": {"name": call.name, "args": args}})
        return parts or [{"text": ""}]

    def _declarations(self, tools: list[Any], place: Place) -> list[dict[str, Any]]:
        listed = []
        for number, tool in enumerate(tools):
            function = tool.get("function", tool)
            kept = {
                key: function[key]
                for key in ("name", "description", "parameters", "response")
                if key in function
            }
            for key in function.keys() - kept.keys():
                place.loss(
                    f"tools[{number}].function.{key}",
                    "lost_key",
                    f"{self.name} has no {key!r} in a tool",
                )
            if kept.get("description", "") is None:
                del kept["description"]
            if '"$' in encode(kept).decode():
                place.warning(
                    f"tools[{number}].function.parameters",
                    "schema",
                    "Gemini's schemas know neither $ref nor $defs",
                )
            listed.append(kept)
        return [{"functionDeclarations": listed}]
