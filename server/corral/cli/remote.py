"""A running Corral over HTTP, with the standard library: the command line starts quickly."""

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from corral.errors import (
    AuthenticationError,
    BadRequest,
    Conflict,
    CorralError,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    UpstreamError,
)
from corral.settings import Settings

if TYPE_CHECKING:
    from http.client import HTTPResponse

# The longest silence of a running Corral: in a quiet stream it sends a comment every 15 s.
TIMEOUT_SECONDS = 60.0
CHUNK = 1024 * 1024
BY_STATUS: dict[int, type[CorralError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
}

Json = dict[str, Any]


class Remote:
    """The Corral at `url`, with or without `/v1`. Of several API keys in the settings the first is
    sent. What it refuses is raised as it would be here; UpstreamError when nobody answers."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        keys = settings.api_keys
        self._headers = {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """One JSON answer."""
        with self.told(), self.open(method, path, body) as answer:
            content: Json = json.load(answer)
            return content

    def upload(self, path: Path, purpose: str) -> Json:
        """Send a file to /v1/files, in pieces; the file as it is there."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{_quoted(path.name)}"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        with path.open("rb") as file:
            size = len(head) + path.stat().st_size + len(tail)
            headers = {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(size),
            }
            data = _pieces(head, file, tail)
            with self.told(), self._send("POST", "/v1/files", data, headers) as answer:
                content: Json = json.load(answer)
                return content

    def download(self, path: str, out: IO[bytes]) -> None:
        """Write the body of an answer to `out`, in pieces."""
        with self.told(), self.open("GET", path) as answer:
            while piece := answer.read(CHUNK):
                out.write(piece)

    def open(self, method: str, path: str, body: Json | None = None) -> "HTTPResponse":
        """The answer, to be read; use it under `told`."""
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, {"Content-Type": "application/json"})

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what goes wrong into errors that say what to do."""
        from http.client import HTTPException
        from urllib.error import HTTPError

        try:
            yield
        except HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
                raise _refused(self._url, error.code, text) from None
        except (OSError, HTTPException, ValueError) as error:
            raise UpstreamError(
                f"no Corral answers at {self._url}: {error}; start it with `corral serve`, or leave "
                "--url out to use the local data directory",
                param="url",
            ) from error

    def _send(
        self, method: str, path: str, data: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> "HTTPResponse":
        from urllib.request import Request, urlopen

        request = Request(self._url + path, data, {**self._headers, **headers}, method=method)
        answer: HTTPResponse = urlopen(request, timeout=TIMEOUT_SECONDS)
        return answer


def _quoted(name: str) -> str:
    """A file's name for a header of a form, as browsers write it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _pieces(head: bytes, file: IO[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    while piece := file.read(CHUNK):
        yield piece
    yield tail


def _refused(url: str, status: int, text: str) -> CorralError:
    try:
        error = json.loads(text)["error"]
        message, param, code = error["message"], error["param"], error["code"]
    except (ValueError, KeyError, TypeError):
        return UpstreamError(f"{url} answered {status}, not like a Corral: {text[:200]!r}")
    return BY_STATUS.get(status, UpstreamError)(message, param=param, code=code)
