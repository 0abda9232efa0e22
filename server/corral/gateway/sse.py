"""Server-sent events as bytes: cut at event boundaries, renamed, checked for a proper end. Pure.

The model's name is replaced by bytes, not by parsing: llama-server writes compact JSON, and inside
a JSON string every quote is escaped, so the sequence `"model":"NAME"` with bare quotes cannot be
part of anything that a model has written.
"""

import json
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from corral.errors import CorralError
from corral.gateway.figures import Figures, of_stream
from corral.gateway.responses_shape import ResponsesShape

Dialect = Literal["openai", "responses", "anthropic", "native"]

# How the last event of a complete stream begins.
LAST_EVENT: Mapping[Dialect, tuple[bytes, ...]] = {
    "openai": (b"data: [DONE]",),
    "responses": (
        b"event: response.completed\n",
        b"event: response.incomplete\n",
        b"event: response.failed\n",
    ),
    "anthropic": (b"event: message_stop\n",),
}
ERROR_EVENTS = (b'data: {"error":', b"event: error\n")
END = b"\n\n"
PING = b":\n\n"
# The last pieces that are kept for the figures: they are in the last event but one, and the network
# may have cut what llama-server has written at once.
KEPT_PIECES = 4


@lru_cache(maxsize=1024)
def renaming(upstream_name: str, asked_name: str, tier: str | None = None) -> tuple[bytes, bytes]:
    """The byte sequence to replace, and its replacement, with `tier` as `service_tier` beside it."""
    old, new = (json.dumps(name, ensure_ascii=False) for name in (upstream_name, asked_name))
    beside = f',"service_tier":"{tier}"' if tier else ""
    return b'"model":' + old.encode(), b'"model":' + (new + beside).encode()


class EventStream:
    """Feeds on chunks as they come from upstream, gives whole events with the name replaced."""

    def __init__(
        self, dialect: Dialect, rename: tuple[bytes, bytes], shape: ResponsesShape | None = None
    ) -> None:
        self._dialect: Dialect = dialect
        self._shape = shape
        self.rename = rename
        self._partial = b""
        self._first = b""
        self.recent: deque[bytes] = deque(maxlen=KEPT_PIECES)
        self.pieces = 0
        self.error: bytes | None = None
        # Why the answer must not end well, where its form is checked (`structured_stream`).
        self.fault: CorralError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now; empty when none is. An error event of llama-server's,
        always the last, is kept back in `error`, as the JSON text of its data."""
        data = self._partial + chunk
        cut = data.rfind(END) + len(END)
        if cut < len(END):
            self._partial = data
            return b""
        events, self._partial = data[:cut], data[cut:]
        if not self._first and events != PING:
            self._first = events
        self.recent.append(events)
        self.pieces += 1
        start = _last(events)
        if events.startswith(ERROR_EVENTS, start):
            self.error = events[start:].partition(b"data: ")[2]
            events = events[:start]
        if self._shape is not None:
            return self._shape.events(events)
        old, new = self.rename
        return events.replace(old, new)

    @property
    def passes(self) -> bool:
        """Whether the next whole event need not be fed: all that is done to it is to note it in `recent`, to count it
        in `pieces` and to `rename` it."""
        return self._shape is None and bool(self._first) and not self._partial

    @property
    def complete(self) -> bool:
        """Whether the stream has reached its proper end."""
        events = self.recent[-1] if self.recent else b""
        start = _last(events)
        if self._dialect == "native":
            return b'"stop":true' in events[start:]
        return events.startswith(LAST_EVENT[self._dialect], start)

    def figures(self) -> Figures | None:
        """What the stream has said of itself so far."""
        last = b"".join(self.recent)
        return of_stream(self._first, last, self.pieces, complete=self.complete)


def _last(events: bytes) -> int:
    """Where the last of whole events begins."""
    before = events.rfind(END, 0, -len(END))
    return 0 if before < 0 else before + len(END)


def error_event(dialect: Dialect, body: Mapping[str, Any]) -> bytes:
    """An error envelope as the event that this dialect's clients understand."""
    if dialect == "anthropic":
        payload = json.dumps({"type": "error", **body})
        return f"event: error\ndata: {payload}\n\n".encode()
    return f"data: {json.dumps(body)}\n\n".encode()
