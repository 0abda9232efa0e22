"""Read the header of a GGUF on another machine by HTTP range requests, without downloading it.

Covers: growing ranges, a cap on what is fetched, servers that ignore `Range`, a length that changes
between requests. Redirects are followed by the client of huggingface_hub, which sends the token to
no other host. Does not cover: the weights (the length that the server claims is believed).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from corral.errors import InvalidModel, NotFound, PermissionDenied, UpstreamError
from corral.registry.gguf_header import Header, parse_header

# The first request; each further one makes what is known four times as long. The header of a model
# with 2,000 tokens takes 50 kB, with 128,000 tokens 8 MB, with 260,000 tokens 16 MB.
FIRST_BYTES = 256 * 1024
GROWTH = 4
MAX_BYTES = 64 * 1024 * 1024
SECONDS = 30.0

# (start, length) -> (the bytes from there, perhaps fewer at the end; the file's whole length)
Fetch = Callable[[int, int], tuple[bytes, int]]


@dataclass(frozen=True)
class RemoteHeader:
    """A header, and the bytes it was read from: the file's first `header.data_start` ones."""

    header: Header
    head: bytes


class _Window:
    """The known beginning of a remote file, as something to read from; grows when read past."""

    def __init__(self, fetch: Fetch, name: str) -> None:
        self._fetch, self._name, self._at = fetch, name, 0
        head, self.size = fetch(0, FIRST_BYTES)
        self.head = bytearray(head)

    def read(self, count: int, /) -> bytes:
        end = self._at + count
        data = bytes(self.upto(end)[self._at : end])
        self._at += len(data)
        return data

    def upto(self, end: int) -> bytearray:
        """What is known, after fetching up to `end`, or to the end of the file."""
        while len(self.head) < min(end, self.size):
            self._grow(end)
        return self.head

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Relative only; what is skipped is fetched when something after it is read."""
        assert whence == 1
        self._at += offset
        return self._at

    def _grow(self, needed: int) -> None:
        known = len(self.head)
        target = min(max(needed, known * GROWTH), MAX_BYTES, self.size)
        if target < min(needed, self.size):
            raise InvalidModel(
                f"{self._name}: its header is longer than {MAX_BYTES} bytes; no model's is",
                param=self._name,
            )
        data, size = self._fetch(known, target - known)
        if size != self.size:
            raise UpstreamError(f"{self._name} changed while it was read; try again")
        if not data:
            raise UpstreamError(f"{self._name}: the server sent nothing at byte {known}; try again")
        self.head += data


def read_remote_header(url: str, headers: Mapping[str, str] | None = None) -> RemoteHeader:
    """Header of the GGUF at `url`; `headers` (an Authorization) go to that host only.

    Blocks for a few round trips. Raises InvalidModel, NotFound, PermissionDenied, UpstreamError.
    """
    return read_through(lambda start, length: _get(url, dict(headers or {}), start, length), url)


def read_through(fetch: Fetch, name: str) -> RemoteHeader:
    """The same by any means of fetching a range."""
    window = _Window(fetch, name)
    header = parse_header(window, window.size, name, details=True)
    # What was skipped at the end need not have been fetched yet.
    return RemoteHeader(header, bytes(window.upto(header.data_start)[: header.data_start]))


def _get(url: str, headers: dict[str, str], start: int, length: int) -> tuple[bytes, int]:
    import httpx2
    from huggingface_hub import get_session

    # Not compressed: the range counts the file's own bytes.
    asked = headers | {
        "Range": f"bytes={start}-{start + length - 1}",
        "Accept-Encoding": "identity",
    }
    try:
        with get_session().stream(
            "GET", url, headers=asked, follow_redirects=True, timeout=SECONDS
        ) as answer:
            _check(answer, url)
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) >= length:
                    break
            return bytes(data[:length]), _whole_length(answer, url)
    except httpx2.HTTPError as error:
        raise UpstreamError(f"{url} cannot be read: {error}; check the address or try again") from (
            error
        )


def _check(answer: Any, url: str) -> None:
    status = answer.status_code
    if status in (401, 403):
        raise PermissionDenied(
            f"{url} answered {status}: the model is gated or private; accept its terms on the hub "
            "and set HF_TOKEN"
        )
    if status == 404:
        raise NotFound(f"{url} answered 404: there is no such file")
    if status == 200:
        raise UpstreamError(
            f"{url} ignores range requests, so its header cannot be read alone; fetch the file "
            "(`corral models pull`)"
        )
    if status != 206:
        raise UpstreamError(f"{url} answered {status} to a range request; try again later")


def _whole_length(answer: Any, url: str) -> int:
    """Of `Content-Range: bytes 0-99/1234` the 1234."""
    given = answer.headers.get("content-range", "")
    whole = given.rpartition("/")[2]
    if not whole.isdigit():
        raise UpstreamError(f"{url} sent no usable Content-Range ({given!r})")
    return int(whole)
