"""llama-server's errors as ours. Pure.

llama-server answers 500 to much that is the caller's mistake (a wrong type, an unsupported field):
its parser throws the same exception for both. Those are told apart by their text.
"""

import json
import re

from corral.errors import BadRequest, CorralError, NotReady, UpstreamError

EMPTY_GRAMMAR = "Unexpected empty grammar stack"
CONTEXT_EXCEEDED = "exceed_context_size_error"
# Beginnings and parts of messages that llama-server gives with status 500 for a caller's mistake.
CALLERS_FAULT = (
    "json.exception",
    "is not supported",
    "not supported",
    "unsupported",
    "must be",
    "must not be",
    "is required",
    "expected",
    "invalid",
    "missing",
    "cannot use",
    "failed to parse",
    "only no echo",
    "only one of",
    "type must be",
    "unable to generate parser",
    "jinja",
    "template",
    "_m_range_check",
)
EXCEPTION = re.compile(r"\[json\.exception[^\]]*\] ")
FIELD = re.compile(r"^Field '(?P<a>\w+)'|^'(?P<b>\w+)' is required|^Failed to parse (?P<c>\w+):")


def translate(status: int, raw: bytes, prompt: str | None = None) -> CorralError:
    """The error to answer with for llama-server's answer of `status` and body `raw`. `prompt` is
    the field that holds the text on this route."""
    message, kind = _read(raw)
    if kind == CONTEXT_EXCEEDED or "is too large to process" in message:
        return BadRequest(message, param=prompt, code="context_length_exceeded")
    if message.startswith("The model produced output") or EMPTY_GRAMMAR in message:
        return UpstreamError(f"the model's answer could not be read: {message}", code="bad_output")
    if message.startswith("model name=") and message.endswith("failed to load"):
        return UpstreamError(f"{message}; its output says why", code="model_load_failed")
    if status == 503:
        return NotReady(f"llama-server: {message}", headers={"Retry-After": "2"})
    if status in (400, 404, 413, 422, 501) or (status == 500 and _callers_fault(message)):
        message = EXCEPTION.sub("", message)
        found = FIELD.search(message)
        param = found and (found["a"] or found["b"] or found["c"])
        # It repeats the whole of the caller's tools or messages after its reason.
        reason = message.partition("; tools = ")[0].partition("; messages = ")[0]
        return BadRequest(reason, param=param, code="not_supported" if status == 501 else None)
    if message.startswith("proxy error"):
        return UpstreamError(
            "the model's llama-server ended before it answered; it is being restarted, try again",
            headers={"Retry-After": "1"},
        )
    return UpstreamError(f"llama-server failed with status {status}: {message}")


def translate_event(raw: bytes) -> CorralError:
    """The same for the data of an error event that llama-server sent inside a stream."""
    try:
        status = json.loads(raw).get("error", {}).get("code")
    except (ValueError, AttributeError):
        status = None
    return translate(status if isinstance(status, int) else 500, raw)


def _read(raw: bytes) -> tuple[str, str]:
    try:
        error = json.loads(raw).get("error", {})
    except (ValueError, AttributeError):
        return raw[:500].decode("utf-8", errors="replace").strip() or "no message", ""
    if not isinstance(error, dict):
        return str(error), ""
    return str(error.get("message", "no message")), str(error.get("type", ""))


def _callers_fault(message: str) -> bool:
    lowered = message.lower()
    return not lowered.startswith("proxy error") and any(part in lowered for part in CALLERS_FAULT)
