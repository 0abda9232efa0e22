"""JSON answers and error answers, as plain ASGI messages."""

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Send

from corral.errors import CorralError


class JSONAnswer(Response):
    """A JSON body, compact, without the cost of a schema."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Compact UTF-8 JSON. Half a character, which a message may repeat from a request, becomes `?`."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def error_answer(error: CorralError) -> JSONAnswer:
    """The envelope of `error` with its status and headers."""
    return JSONAnswer(error.body(), status_code=error.status, headers=error.headers)


async def send_error(send: Send, error: CorralError, *, more_body: bool = False) -> None:
    """Answer with `error` from middleware, outside the routes."""
    answer = error_answer(error)
    await send(
        {"type": "http.response.start", "status": error.status, "headers": answer.raw_headers}
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": more_body})
