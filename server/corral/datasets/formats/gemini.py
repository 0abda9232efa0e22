"""Gemini tuning rows (Vertex AI): `contents` with parts."""

import mimetypes
from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format
from corral.datasets.formats.turns import raw_object, read_arguments
from corral.datasets.rows import Content, Message, Row, ToolCall
from corral.datasets.strict_json import encode

_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}


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
            turns += self._turns(item, number, place)
        tools = self._tools(value.get("tools"), place)
        if place.bad:
            return None
        return Row("chat", messages=tuple(turns), tools=tools, extra=self.extra_of(value))

    def _system(self, value: dict[str, Any], place: Place) -> list[Message]:
        item = value.get("systemInstruction", value.get("system_instruction"))
        if item is None:
            return []
        parts = item.get("parts") if isinstance(item, dict) else None
        if not isinstance(parts, list) or not all(_is_text(part) for part in parts):
            place.error(
                "systemInstruction",
                "wrong_type",
                f'found {shown(item)}; must be {{"parts":[{{"text":…}}]}}',
            )
            return []
        return [Message("system", _content([part["text"] for part in parts], []))]

    def _turns(self, item: Any, number: int, place: Place) -> list[Message]:
        """One content is one turn, but each functionResponse in it is a turn of its own."""
        here = f"contents[{number}]"
        role = item.get("role") if isinstance(item, dict) else None
        parts = item.get("parts") if isinstance(item, dict) else None
        if role not in _ROLES:
            place.error(f"{here}.role", "bad_role", f"found {shown(role)}; allowed: user, model")
            return []
        if not isinstance(parts, list) or not parts:
            place.error(
                f"{here}.parts", "bad_content", f"found {shown(parts)}; must be a list of parts"
            )
            return []
        texts: list[str] = []
        media: list[dict[str, Any]] = []
        calls: list[ToolCall] = []
        results: list[Message] = []
        for index, part in enumerate(parts):
            if _is_text(part):
                texts.append(part["text"])
            elif isinstance(part, dict) and isinstance(part.get("functionCall"), dict):
                calls.append(self._call(part["functionCall"], number, index, place))
            elif isinstance(part, dict) and isinstance(part.get("functionResponse"), dict):
                results.append(self._result(part["functionResponse"], number, index, place))
            elif isinstance(part, dict) and ("fileData" in part or "inlineData" in part):
                media.append(_read_media(part, f"{here}.parts[{index}]", place))
            else:
                place.error(
                    f"{here}.parts[{index}]",
                    "bad_content",
                    f"found {shown(part)}; allowed: text, fileData, inlineData, functionCall, functionResponse",
                )
        if texts or media or calls or not results:
            content = _content(texts, media) if texts or media else None
            results.append(Message(_ROLES[role], content, tuple(calls)))
        return results

    def _call(self, value: dict[str, Any], number: int, index: int, place: Place) -> ToolCall:
        path = ("contents", number, "parts", index, "functionCall", "args")
        arguments = read_arguments(value["args"], place, path) if "args" in value else "{}"
        return ToolCall(str(value.get("name", "")), arguments)

    def _result(self, value: dict[str, Any], number: int, index: int, place: Place) -> Message:
        response = value.get("response")
        name = value.get("name")
        if (
            isinstance(response, dict)
            and response.keys() == {"output"}
            and isinstance(response["output"], str)
        ):
            text = response["output"]
        else:
            path = ("contents", number, "parts", index, "functionResponse", "response")
            text = read_arguments(response if response is not None else {}, place, path)
        return Message("tool", text, name=name if isinstance(name, str) else None)

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
            response = {"output": adapt.flat(turn.content, place, here)}
            return [{"functionResponse": {"name": name, "response": response}}]
        parts = _write_content(turn.content, here, place)
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


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() == {"text"} and isinstance(part["text"], str)


def _content(texts: list[str], media: list[dict[str, Any]]) -> Content:
    if len(texts) == 1 and not media:
        return texts[0]
    return [*media, *({"type": "text", "text": text} for text in texts)]


def _read_media(part: dict[str, Any], here: str, place: Place) -> dict[str, Any]:
    data = part.get("inlineData") or part.get("fileData")
    mime = data.get("mimeType", "") if isinstance(data, dict) else ""
    where = data.get("fileUri") or data.get("data") if isinstance(data, dict) else None
    if not isinstance(mime, str) or not isinstance(where, str):
        place.error(
            here, "bad_content", f"found {shown(part)}; a file has mimeType and fileUri or data"
        )
        return {"type": "text", "text": ""}
    if not mime.startswith("image/"):
        place.error(here, "lost_media", f"found {shown(mime)}; of files, only images can be read")
    if "inlineData" in part:
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{where}"}}
    place.note(here, "media_type", f"the type {mime} is told by the file's name only")
    return {"type": "image_url", "image_url": {"url": where}}


def _write_content(content: Content, here: str, place: Place) -> list[dict[str, Any]] | None:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}]
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text":
            parts.append({"text": part["text"]})
            continue
        url = part.get("image_url", {}).get("url") if part["type"] == "image_url" else None
        media = _media(url) if isinstance(url, str) else None
        if media is None:
            place.loss(
                f"{here}.content", "lost_media", f"gemini cannot hold {shown(part)}; row left out"
            )
            return None
        if part["image_url"].keys() != {"url"}:
            place.loss(f"{here}.content", "lost_key", "gemini holds an image's url only")
        parts.append(media)
    return parts


def _media(url: str) -> dict[str, Any] | None:
    if url.startswith("data:") and ";base64," in url:
        mime, data = url[5:].split(";base64,", 1)
        return {"inlineData": {"mimeType": mime, "data": data}}
    mime_type = mimetypes.guess_type(url.partition("?")[0])[0]
    return {"fileData": {"mimeType": mime_type, "fileUri": url}} if mime_type else None
