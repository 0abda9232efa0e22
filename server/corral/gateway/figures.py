"""What an answer of llama-server's says of itself: tokens and seconds. Pure.

Read from the answer's ends, never by parsing the whole. llama-server writes compact JSON and inside a
JSON string every quote is escaped, so `"usage":{` with bare quotes is no text of a model's. What is a
model's own JSON (a tool's input in Anthropic's shape) comes before the figures; embeddings and ranks
come after them, hence the look at the head where the tail has none.

With `n` above 1 llama-server tells the figures of one choice only, and so does this.
"""

from dataclasses import dataclass
from typing import Self, TypeVar

import msgspec

# Usage and timings take about 500 bytes; a last event of /infill has some settings after them.
TAIL = 4096
HEAD = 1024

USAGE = b'"usage":{'
TIMINGS = b'"timings":{'
# Objects in `usage`, itself included: where it ends is tried.
OBJECTS = 4


Kind = TypeVar("Kind")


class _Cached(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    """OpenAI's names, those of Responses, Anthropic's. There `input_tokens` are only those that the cache did not have."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Cached | None = None
    cache_read_input_tokens: int = 0


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0
    prompt_ms: float | None = None
    predicted_ms: float | None = None


# Between tokens json's reader took 20 µs for the one, this 5.
_usage = msgspec.json.Decoder(_Usage)
_timings = msgspec.json.Decoder(_Timings)


# Not frozen: one is made for each request, and each field would be set by a call.
@dataclass(slots=True)
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
    usage = _object(_usage, tail, tail.rfind(USAGE))
    if usage is None:
        usage = _object(_usage, raw[:HEAD], raw.find(USAGE, 0, HEAD))
    return _figures(None, usage, _object(_timings, tail, tail.rfind(TIMINGS)))


def of_stream(first: bytes, last: bytes, pieces: int, *, complete: bool) -> Figures | None:
    """The figures of a stream, from its first and its last events; None where it has none. Of one that
    broke off after `pieces` pieces: what is known then."""
    # Anthropic's shape tells the prompt's tokens at the beginning.
    anthropic = first.startswith(b"event: message_start")
    begun = _object(_usage, first, first.find(USAGE)) if anthropic else None
    if complete:
        tail = last[-TAIL:]
        usage = _object(_usage, tail, tail.rfind(USAGE))
        return _figures(begun, usage, _object(_timings, tail, tail.rfind(TIMINGS)))
    if not pieces:
        return None
    known = _figures(None, begun, None)
    return Figures(
        prompt=known.prompt if known else 0,
        cached=known.cached if known else 0,
        generated=pieces,
        complete=False,
    )


def _object(decoder: msgspec.json.Decoder[Kind], text: bytes, at: int) -> Kind | None:
    """The value of the key at `at`; None where it is not there, not whole, or no such object: an answer never
    fails for this."""
    start = end = text.find(b"{", at) if at >= 0 else -1
    for _ in range(OBJECTS):
        end = text.find(b"}", end) + 1 if end >= 0 else 0
        if not end:
            break
        try:
            return decoder.decode(text[start:end])
        except msgspec.ValidationError:
            break
        except ValueError:
            continue  # that was the end of an object inside
    return None


def _figures(
    begun: _Usage | None, usage: _Usage | None, timings: _Timings | None
) -> Figures | None:
    if begun is None and usage is None and timings is None:
        return None
    usage = usage or _Usage()
    timings = timings or _Timings()
    told = usage if begun is None or usage.input_tokens else begun
    beside, read = told.cache_read_input_tokens, timings.cache_n
    details = usage.prompt_tokens_details or usage.input_tokens_details
    prompt = usage.prompt_tokens or told.input_tokens
    return Figures(
        prompt=prompt + beside or read + timings.prompt_n,
        cached=(details.cached_tokens if details else 0) or beside or read,
        generated=usage.completion_tokens or usage.output_tokens or timings.predicted_n,
        prompt_seconds=(timings.prompt_ms or 0.0) / 1000,
        generation_seconds=(timings.predicted_ms or 0.0) / 1000,
    )
