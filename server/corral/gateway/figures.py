"""What an answer of llama-server's says of itself: tokens and seconds. Pure.

Read from the answer's ends, never by parsing the whole. llama-server writes compact JSON and inside a
JSON string every quote is escaped, so `"usage":{` with bare quotes is no text of a model's. What is a
model's own JSON (a tool's input in Anthropic's shape) comes before the figures; embeddings and ranks
come after them, hence the look at the head where the tail has none.

With `n` above 1 llama-server tells the figures of one choice only, and so does this.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# Usage and timings take about 500 bytes; a last event of /infill has some settings after them.
TAIL = 4096
HEAD = 1024

USAGE = b'"usage":{'
TIMINGS = b'"timings":{'

_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class Figures:
    """Tokens and seconds of one request. What llama-server did not say is 0. `complete`: it said them
    at the answer's end; else the answer broke off, and `generated` counts the pieces that had come, about
    one token each, while the prompt's tokens are known in Anthropic's shape only."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    complete: bool = True

    def __add__(self, other: Self) -> "Figures":
        """Both together: a request that was asked twice upstream has used the tokens of both."""
        return Figures(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.generated + other.generated,
            self.prompt_seconds + other.prompt_seconds,
            self.generation_seconds + other.generation_seconds,
            self.complete and other.complete,
        )


def of_whole(raw: bytes) -> Figures | None:
    """The figures of an answer that was not streamed; None where it has none."""
    tail = raw[-TAIL:]
    usage = _object(tail, tail.rfind(USAGE)) or _object(raw[:HEAD], raw.find(USAGE, 0, HEAD))
    return _figures(usage, _object(tail, tail.rfind(TIMINGS)))


def of_stream(first: bytes, last: bytes, pieces: int, *, complete: bool) -> Figures | None:
    """The figures of a stream, from its first and its last events; None where it has none. Of one that
    broke off after `pieces` pieces: what is known then."""
    tail = last[-TAIL:]
    # Anthropic's shape tells the prompt's tokens at the beginning.
    anthropic = first.startswith(b"event: message_start")
    begun = _object(first, first.find(USAGE)) if anthropic else {}
    if complete:
        usage = {**begun, **_object(tail, tail.rfind(USAGE))}
        return _figures(usage, _object(tail, tail.rfind(TIMINGS)))
    if not pieces:
        return None
    known = _figures(begun, {})
    return Figures(
        prompt=known.prompt if known else 0,
        cached=known.cached if known else 0,
        generated=pieces,
        complete=False,
    )


def _object(text: bytes, at: int) -> Mapping[str, Any]:
    """The value of the key at `at`; empty where it is not there or not whole."""
    if at < 0:
        return {}
    try:
        value, _ = _decode(text[text.index(b"{", at) :].decode("utf-8", "replace"))
    except ValueError:
        return {}
    found: Mapping[str, Any] = value
    return found


def _figures(usage: Mapping[str, Any], timings: Mapping[str, Any]) -> Figures | None:
    if not usage and not timings:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    # Anthropic's `input_tokens` are only those that the cache did not have.
    beside = _count(usage, "cache_read_input_tokens")
    read, processed = _count(timings, "cache_n"), _count(timings, "prompt_n")
    return Figures(
        prompt=_count(usage, "prompt_tokens", "input_tokens") + beside or read + processed,
        cached=_count(details, "cached_tokens") or beside or read,
        generated=_count(usage, "completion_tokens", "output_tokens")
        or _count(timings, "predicted_n"),
        prompt_seconds=_seconds(timings, "prompt_ms"),
        generation_seconds=_seconds(timings, "predicted_ms"),
    )


def _count(values: Mapping[str, Any], *keys: str) -> int:
    """The first of `keys` that is there; 0 for what is no number: an answer never fails for this."""
    for key in keys:
        if isinstance(value := values.get(key), int):
            return value
    return 0


def _seconds(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    return value / 1000 if isinstance(value, int | float) else 0.0
