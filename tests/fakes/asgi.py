"""Call an ASGI application in process, message by message."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Answer:
    """What the application sent. `received` counts the messages it asked for."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    received: int = 0

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The inside of the envelope; fails when the body is none."""
        body = self.json()
        assert set(body) == {"error"}, body
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error


async def call(
    app: ASGIApp,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] = b"",
    headers: dict[str, str] | None = None,
    query: str = "",
    *,
    raw_path: str = "",
    goes_away: bool = False,
) -> Answer:
    """One request. A body that is not bytes is sent in chunks, without a length, until it ends; then
    the client may go away instead of saying that this was all."""
    answer = Answer()
    chunks = iter([body] if isinstance(body, bytes) else body)
    sent = {"host": "127.0.0.1", **(headers or {})}
    if isinstance(body, bytes):
        sent.setdefault("content-length", str(len(body)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": (raw_path or path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 5000),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
    }
    state = {"more": True}

    async def receive() -> Message:
        answer.received += 1
        if not state["more"]:
            await asyncio.Event().wait()
        chunk = next(chunks, None)
        state["more"] = chunk is not None and not isinstance(body, bytes)
        if chunk is None and goes_away:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk or b"", "more_body": state["more"]}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer
