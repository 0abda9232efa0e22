"""An HTTP server with one file that answers range requests; it counts bytes, and lies when told to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class RangeServer:
    """Start with `with`. `status` answers that instead; `location` redirects; `grows` makes the file
    one byte longer at each request; `silent` sends no bytes after the first request."""

    def __init__(
        self,
        content: bytes,
        *,
        status: int = 0,
        location: str = "",
        grows: bool = False,
        silent: bool = False,
    ) -> None:
        self.content, self.status, self.location = content, status, location
        self.grows, self.silent = grows, silent
        self.ranges: list[tuple[int, int]] = []
        self.tokens: list[str | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """The file's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/model.gguf"

    @property
    def sent(self) -> int:
        """Bytes of the file that went out."""
        return sum(end - start for start, end in self.ranges)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.tokens.append(self.headers.get("Authorization"))
                if owner.location:
                    self.send_response(302)
                    self.send_header("Location", owner.location)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif owner.status:
                    self.send_response(owner.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._send()

            def _send(self) -> None:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last) + 1, len(owner.content))
                if owner.silent and owner.ranges:
                    end = start
                total = len(owner.content) + (len(owner.ranges) if owner.grows else 0)
                owner.ranges.append((start, end))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
                self.send_header("Content-Length", str(end - start))
                self.end_headers()
                self.wfile.write(owner.content[start:end])

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

        return Handler
