"""One file and a few short fields out of a multipart/form-data body, as it arrives.

The file goes to disk in blocks; what is in memory is one block and one chunk of the network.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from corral.errors import BadRequest, CorralError, PayloadTooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

BLOCK = 1024 * 1024
# A body of files may be longer than its file by this: boundaries, headers, the other fields.
OVERHEAD_BYTES = 256 * 1024
FIELD_MAX_BYTES = 64 * 1024
FIELDS_MAX = 50


class ClientGoneError(BadRequest):
    """Nobody reads the answer any more."""


class Sink(Protocol):
    """Where the file goes."""

    def write(self, data: bytearray) -> None:
        """Take these bytes; may block."""


@dataclass
class Form:
    """What was in the body: the short fields, and the name of the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def read_form(request: Request, file_field: str, sink: Sink, limit: int) -> Form:
    """Read the body; its file, which must be the field `file_field` and at most `limit` bytes, goes
    into `sink`. BadRequest or PayloadTooLarge, naming the field at fault."""
    reader = _Reader(file_field, limit)
    parser = MultipartParser(_boundary(request, file_field), reader.callbacks())
    try:
        async for chunk in request.stream():
            parser.write(chunk)
            if len(reader.block) >= BLOCK:
                await asyncio.to_thread(sink.write, reader.taken())
    except ClientDisconnect:
        raise ClientGoneError(
            "the client went away before the end of the body", param=file_field
        ) from None
    except FormParserError as error:
        raise BadRequest(f"the multipart body is malformed: {error}", param=file_field) from None
    if not reader.complete:
        raise BadRequest("the multipart body ends too early", param=file_field)
    if reader.form.filename is None:
        raise BadRequest(f"`{file_field}` is required, as a file", param=file_field)
    if not reader.bytes:
        raise BadRequest(f"`{file_field}` is an empty file", param=file_field)
    await asyncio.to_thread(sink.write, reader.taken())
    return reader.form


@asynccontextmanager
async def whole_body(request: Request) -> AsyncIterator[None]:
    """Reads what is left of the body before an error goes on: a client that writes everything
    before it reads still gets to see why."""
    try:
        yield
    except ClientGoneError:
        raise
    except CorralError:
        # RuntimeError: it was read to its end. Another CorralError: it is over the limit.
        with suppress(RuntimeError, CorralError, ClientDisconnect):
            async for _ in request.stream():
                pass
        raise


def _boundary(request: Request, file_field: str) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not 1 <= len(options.get(b"boundary", b"")) <= 200:
        raise BadRequest(
            f"the body must be multipart/form-data with the file in `{file_field}`, not "
            f"{kind.decode('latin-1') or 'without a type'}",
            param=file_field,
        )
    return options[b"boundary"]


class _Reader:
    """The parser's callbacks. `block`: bytes of the file that are still to be written."""

    def __init__(self, file_field: str, limit: int) -> None:
        self._file_field, self._limit = file_field, limit
        self.form = Form()
        self.block = bytearray()
        self.bytes = 0
        self.complete = False
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._field: str | None = None
        self._text = bytearray()
        self._count = 0

    def callbacks(self) -> "MultipartCallbacks":
        """For the parser."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_end": self._on_end,
        }

    def taken(self) -> bytearray:
        """The bytes to write; they are no longer in `block`."""
        block, self.block = self.block, bytearray()
        return block

    def _on_part_begin(self) -> None:
        self._count += 1
        if self._count > FIELDS_MAX:
            raise BadRequest(f"the form has over {FIELDS_MAX} fields", param=self._file_field)
        self._disposition, self._field = b"", None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        if name != self._file_field:
            self._field, self._text = name, bytearray()
            return
        if b"filename" not in options:
            raise BadRequest(f"`{name}` must be a file, with a name", param=name)
        if self.form.filename is not None:
            raise BadRequest(f"`{name}` may be sent once only", param=name)
        self.form.filename = _text(options[b"filename"])

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        if self._field is None:
            self.bytes += size
            if self.bytes > self._limit:
                raise PayloadTooLarge(
                    f"`{self._file_field}` is over {self._limit} bytes", param=self._file_field
                )
            self.block += memoryview(data)[start:end]
        elif len(self._text) + size > FIELD_MAX_BYTES:
            raise BadRequest(
                f"`{self._field}` is over {FIELD_MAX_BYTES} bytes", param=self._field or None
            )
        else:
            self._text += memoryview(data)[start:end]

    def _on_part_end(self) -> None:
        if self._field is not None:
            self.form.fields[self._field] = _text(bytes(self._text))

    def _on_end(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
