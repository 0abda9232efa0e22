"""The Responses API's answers made whole: llama-server leaves out fields that clients rely on. Pure.

Left out at this commit: in a response the echo of what was asked (`tools`, `tool_choice` …) and a
status other than `completed`; in a stream the numbering (`sequence_number`, `output_index`,
`content_index`) and the event that ends a function call's arguments. OpenAI's streaming helper,
pydantic-ai and openai-agents fail without them.
"""

import json
from collections.abc import Mapping
from typing import Any

# Echoed from the request, with the API's defaults.
ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": None,
    "service_tier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": None,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
WITH_CONTENT_INDEX = ("response.content_part.", "response.output_text.", "response.reasoning_text.")
CALL_ARGUMENTS_DONE = "response.function_call_arguments.done"
CUT_OFF = {"reason": "max_output_tokens"}


class ResponsesShape:
    """Completes one answer. `request` is the body as the client sent it, `asked` its model name,
    `limit` the most tokens that the answer may have."""

    def __init__(
        self, request: Mapping[str, Any], asked: str, created_at: int, limit: int | None
    ) -> None:
        self._echo = {
            key: default if request.get(key) is None else request[key]
            for key, default in ECHOED.items()
        }
        self._asked = asked
        self._created_at = created_at
        self._limit = limit
        self._sequence = 0
        self._indices: dict[str, int] = {}

    def whole(self, raw: bytes) -> bytes:
        """A complete answer that was not streamed."""
        return _dump(self._response(json.loads(raw)))

    def events(self, raw: bytes) -> bytes:
        """Whole events of a stream, as `EventStream` gives them; comments pass."""
        blocks = raw.split(b"\n\n")
        return b"\n\n".join(self._block(block) if block else block for block in blocks)

    def _block(self, block: bytes) -> bytes:
        head, found, data = block.partition(b"\ndata: ")
        if not found or not head.startswith(b"event: "):
            return block
        return b"\n\n".join(_event(event) for event in self._complete(json.loads(data)))

    def _complete(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """The event made whole, with the one before it that llama-server leaves out."""
        kind = event["type"]
        if "response" in event:
            event["response"] = self._response(event["response"])
            if event["response"]["status"] == "incomplete":
                event["type"] = "response.incomplete"
            return [self._numbered(event)]
        item = event.get("item", {})
        event["output_index"] = self._index(event.get("item_id") or item.get("id", ""))
        if kind.startswith(WITH_CONTENT_INDEX):
            event["content_index"] = 0
        if kind.startswith("response.output_text."):
            event.setdefault("logprobs", [])
        if kind == "response.content_part.added":
            event["part"].setdefault("annotations", [])
        if kind == "response.output_item.done" and item.get("type") == "function_call":
            return [self._numbered(self._arguments_done(event)), self._numbered(event)]
        return [self._numbered(event)]

    def _arguments_done(self, event: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "type": CALL_ARGUMENTS_DONE,
            "item_id": event["item"]["id"],
            "name": event["item"]["name"],
            "arguments": event["item"]["arguments"],
            "output_index": event["output_index"],
        }

    def _numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        event["sequence_number"] = self._sequence
        self._sequence += 1
        return event

    def _index(self, item: str) -> int:
        return self._indices.setdefault(item, len(self._indices))

    def _response(self, response: dict[str, Any]) -> dict[str, Any]:
        whole = {
            "created_at": self._created_at,
            "error": None,
            "incomplete_details": None,
            "output": [],
            **self._echo,
            **response,
            "model": self._asked,
        }
        usage = whole.get("usage")
        if usage:
            usage.setdefault("output_tokens_details", {"reasoning_tokens": 0})
            usage.setdefault("input_tokens_details", {}).setdefault("cache_write_tokens", 0)
            # llama-server does not say why it ended; an answer as long as it may be was cut off.
            if self._limit and usage["output_tokens"] >= self._limit:
                whole |= {"status": "incomplete", "incomplete_details": CUT_OFF}
        return whole


def _event(event: Mapping[str, Any]) -> bytes:
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + _dump(event)


def _dump(value: Any) -> bytes:
    text: str = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a character, which the request may have held, becomes `?`.
    return text.encode("utf-8", "replace")
