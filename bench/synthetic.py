"""An upstream that costs almost nothing: it answers a fixed text at a fixed pace, and runs no model.

    python -m bench.synthetic --port 9000 [--interval 0.002]

It speaks as much of llama-server's router as Corral asks for, so that it can stand in for the
binary: it takes its other flags and ignores them. A request says how much it wants: `max_tokens`.
"""

import argparse
import asyncio
import configparser
import json
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: "
STREAM_HEAD = HEAD + b"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = {
    "choices": [{"finish_reason": None, "index": 0, "delta": {"content": " herd"}}],
    "created": 1700000000,
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "model": "tiny@1",
    "system_fingerprint": "b1-0c1e570",
    "object": "chat.completion.chunk",
}
WHOLE = {
    "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": " herd" * 16}}],
    "created": 1700000000,
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "model": "tiny@1",
    "object": "chat.completion",
    "usage": {"completion_tokens": 16, "prompt_tokens": 16, "total_tokens": 32},
}  # fmt: skip


def _event(data: str) -> bytes:
    raw = f"data: {data}\n\n".encode()
    return f"{len(raw):x}\r\n".encode() + raw + b"\r\n"


def _whole(body: Any) -> bytes:
    raw = json.dumps(body, separators=(",", ":")).encode()
    length = f"Content-Length: {len(raw)}\r\n\r\n".encode()
    return HEAD + b"application/json\r\n" + length + raw


CHUNK = _event(json.dumps(PIECE, separators=(",", ":")))
LAST = _event("[DONE]") + b"0\r\n\r\n"


class Synthetic(asyncio.Protocol):
    """One connection."""

    def __init__(self, sections: list[str], port: int, interval: float) -> None:
        self._sections, self._port, self._interval = sections, port, interval
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one too, but no subclass.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self._url.startswith(b"/models") and not self._body:
            args = ["llama-server", "--port", str(self._port)]
            status = {"value": "loaded", "args": args}
            listed = [{"id": name, "status": status} for name in self._sections]
            self._transport.write(_whole({"data": listed}))
        elif not self._body:
            self._transport.write(_whole({"status": "ok"}))
        else:
            body = json.loads(self._body)
            if body.get("stream"):
                self._transport.write(STREAM_HEAD)
                self._token(body["max_tokens"])
            else:
                self._transport.write(_whole(WHOLE))

    def _token(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(LAST)
            return
        self._transport.write(CHUNK)
        loop = asyncio.get_running_loop()
        # On a common beat, as a batch of slots gives its tokens: together. Rounded: where a beat is told as a
        # little before itself, the next would be the same one, at once.
        due = (round(loop.time() / self._interval) + 1) * self._interval
        loop.call_at(due, self._token, left - 1)


def _sections(presets: Path | None) -> list[str]:
    if presets is None:
        return ["tiny@1"]
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read_string(presets.read_text().replace("version = 1", "", 1))
    return parser.sections()


async def _serve(port: int, presets: Path | None, interval: float) -> None:
    loop = asyncio.get_running_loop()
    sections = _sections(presets)
    server = await loop.create_server(
        lambda: Synthetic(sections, port, interval), "127.0.0.1", port, backlog=512
    )
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models-preset", type=Path)
    parser.add_argument("--interval", type=float, default=0.002)
    flags, _ = parser.parse_known_args()
    uvloop.run(_serve(flags.port, flags.models_preset, flags.interval))


if __name__ == "__main__":
    main()
