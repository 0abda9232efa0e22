"""The parts of Gemini's contents: text, files, function calls and responses."""

import mimetypes
from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats.turns import read_arguments
from corral.datasets.rows import Content, Message, ToolCall

ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
_ALLOWED = "text, fileData, inlineData, functionCall, functionResponse"


def read_content(item: Any, number: int, place: Place) -> list[Message]:
    """One content as turns: each functionResponse is a turn of its own, all else one turn."""
    here = f"contents[{number}]"
    role = item.get("role") if isinstance(item, dict) else None
    parts = item.get("parts") if isinstance(item, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        place.error(f"{here}.role", "bad_role", f"found {shown(role)}; allowed: user, model")
        return []
    if not isinstance(parts, list) or not parts:
        place.error(
            f"{here}.parts", "bad_content", f"found {shown(parts)}; must be a list of parts"
        )
        return []
    said: list[dict[str, Any]] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, part in enumerate(parts):
        kind = part.keys() if isinstance(part, dict) else frozenset()
        if kind == {"text"} and isinstance(part["text"], str):
            if calls:
                place.note(f"{here}.parts[{index}]", "reordered", "text after a call comes first")
            said.append({"type": "text", "text": part["text"]})
        elif kind == {"functionCall"} and isinstance(part["functionCall"], dict):
            calls.append(_read_call(part["functionCall"], number, index, place))
        elif kind == {"functionResponse"} and isinstance(part["functionResponse"], dict):
            results.append(_read_result(part["functionResponse"], number, index, place))
        elif kind == {"fileData"} or kind == {"inlineData"}:
            said.append(_read_media(part, f"{here}.parts[{index}]", place))
        else:
            found = f"found {shown(part)}; allowed: {_ALLOWED}"
            place.error(f"{here}.parts[{index}]", "bad_content", found)
    if said or calls or not results:
        results.append(Message(ROLES[role], content_of(said), tuple(calls)))
    return results


def content_of(parts: list[dict[str, Any]]) -> Content:
    """Parts as content: a single text as such."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts or None


def is_text(part: Any) -> bool:
    """Whether a part is text and nothing else."""
    return isinstance(part, dict) and part.keys() == {"text"} and isinstance(part["text"], str)


def _read_call(value: dict[str, Any], number: int, index: int, place: Place) -> ToolCall:
    path = ("contents", number, "parts", index, "functionCall", "args")
    arguments = read_arguments(value["args"], place, path) if "args" in value else "{}"
    return ToolCall(
        _name(value, f"contents[{number}].parts[{index}].functionCall", place), arguments
    )


def _read_result(value: dict[str, Any], number: int, index: int, place: Place) -> Message:
    response = value.get("response", {})
    if isinstance(response, dict) and response.keys() == {"output"}:
        output = response["output"]
        if isinstance(output, str):
            name = _name(value, f"contents[{number}].parts[{index}].functionResponse", place)
            return Message("tool", output, name=name)
    path = ("contents", number, "parts", index, "functionResponse", "response")
    text = read_arguments(response, place, path) if "response" in value else "{}"
    name = _name(value, f"contents[{number}].parts[{index}].functionResponse", place)
    return Message("tool", text, name=name)


def _name(value: dict[str, Any], here: str, place: Place) -> str:
    name = value.get("name")
    if isinstance(name, str) and name:
        return name
    place.error(f"{here}.name", "missing_field", f"found {shown(name)}; must be the tool's name")
    return ""


def _read_media(part: dict[str, Any], here: str, place: Place) -> dict[str, Any]:
    data = part.get("inlineData") or part.get("fileData")
    mime = data.get("mimeType", "") if isinstance(data, dict) else ""
    where = data.get("fileUri") or data.get("data") if isinstance(data, dict) else None
    if not isinstance(mime, str) or not isinstance(where, str):
        found = f"found {shown(part)}; a file has mimeType and fileUri or data"
        place.error(here, "bad_content", found)
        return {"type": "text", "text": ""}
    if not mime.startswith("image/"):
        found = f"found {shown(mime)}; of files, only images can be read"
        place.error(here, "lost_media", found)
    if "inlineData" in part:
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{where}"}}
    if mimetypes.guess_type(where)[0] != mime:
        place.note(here, "media_type", f"that it is {mime} is not told by its name; lost")
    return {"type": "image_url", "image_url": {"url": where}}


def write_content(content: Content, here: str, place: Place) -> list[dict[str, Any]] | None:
    """Content as parts; None, after a loss, when a part has no place in Gemini's."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}]
    if len(content) == 1 and content[0]["type"] == "text":
        place.note(f"{here}.content", "joined_parts", "a list of one text is read back as the text")
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text":
            parts.append({"text": part["text"]})
            continue
        image = part.get("image_url") if part["type"] == "image_url" else None
        url = image.get("url") if isinstance(image, dict) else None
        media = _media(url) if isinstance(url, str) else None
        if media is None or not isinstance(image, dict):
            found = f"gemini cannot hold {shown(part)}; row left out"
            place.loss(f"{here}.content", "lost_media", found)
            return None
        if image.keys() != {"url"}:
            place.loss(f"{here}.content", "lost_key", "gemini holds an image's url only")
        parts.append(media)
    return parts


def _media(url: str) -> dict[str, Any] | None:
    if url.startswith("data:") and ";base64," in url:
        mime, data = url[5:].split(";base64,", 1)
        return {"inlineData": {"mimeType": mime, "data": data}}
    mime_type = mimetypes.guess_type(url.partition("?")[0])[0]
    return {"fileData": {"mimeType": mime_type, "fileUri": url}} if mime_type else None
