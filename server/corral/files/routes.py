"""/v1/files: create, list, retrieve, content, delete. Thin: the store does the work."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar, get_args

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from corral.asking import Asking
from corral.errors import BadRequest, PayloadTooLarge, StoreError
from corral.files.disk import Incoming
from corral.files.multipart import OVERHEAD_BYTES, Form, read_form, whole_body
from corral.files.schemas import (
    MAX_SECONDS,
    MIN_SECONDS,
    PURPOSES,
    DeletedFile,
    FileRequest,
    Purpose,
    ShownFile,
    file_object,
)
from corral.files.store import Files
from corral.files.uploads import PART_MAX_BYTES
from corral.openapi import Page
from corral.pages import page
from corral.settings import Settings

BRACKETS = re.compile(r"\[([^\[\]]*)\]")
# For the API's description: the body is read by hand.
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "minLength": 1},
                        "purpose": {"type": "string", "enum": get_args(Purpose)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": MIN_SECONDS,
                            "maximum": MAX_SECONDS,
                        },
                    },
                    "dependentRequired": {
                        "expires_after[anchor]": ["expires_after[seconds]"],
                        "expires_after[seconds]": ["expires_after[anchor]"],
                    },
                }
            }
        },
    }
}
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

Wanted = TypeVar("Wanted", bound=BaseModel)
Limit = Annotated[int, Query(ge=1, le=10_000)]
# Described only: the route says better what is wrong.
AnyPurpose = Annotated[str | None, Query(json_schema_extra={"enum": [*PURPOSES, None]})]


class FileRoutes:
    """The endpoints over one store."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings, self._files = settings, files

    def router(self) -> APIRouter:
        """The router to include in the application."""
        made = APIRouter(tags=["files"])
        for prefix in ("/v1/files", "/files"):
            shown = prefix.startswith("/v1")
            add = made.add_api_route
            add(
                prefix,
                self.create,
                methods=["POST"],
                include_in_schema=shown,
                openapi_extra=FILE_BODY,
                response_model=ShownFile,
            )
            one = prefix + "/{file_id}"
            for path, method, route, answer in (
                (prefix, "GET", self.list_files, Page[ShownFile]),
                (one, "GET", self.retrieve, ShownFile),
                (one, "DELETE", self.delete, DeletedFile),
            ):
                add(path, route, methods=[method], include_in_schema=shown, response_model=answer)
            add(
                one + "/content",
                self.content,
                methods=["GET"],
                include_in_schema=shown,
                response_class=FileResponse,
                responses={200: {"content": BYTES}},
            )
        return made

    async def create(self, request: Request, asking: Asking) -> Response:
        """Upload a file."""
        async with whole_body(request), receiving(self._files, request) as incoming:
            limit = self._settings.files_max_bytes
            form = await read_form(request, "file", incoming, limit)
            asked = parsed(FileRequest, _nested(form.fields))
            row = await asyncio.to_thread(
                self._files.keep,
                incoming,
                filename=_filename(form),
                purpose=asked.purpose,
                owner=asking.owner,
                seconds=asked.expires_after.seconds if asked.expires_after else None,
            )
        return JSONResponse(file_object(row))

    async def list_files(
        self,
        asking: Asking,
        limit: Limit = 10_000,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: AnyPurpose = None,
    ) -> Response:
        """Files, the newest first."""
        if purpose is not None and purpose not in PURPOSES:
            allowed = ", ".join(f"`{name}`" for name in PURPOSES)
            raise BadRequest(f"no purpose `{purpose}`; there are: {allowed}", param="purpose")
        whose = asking.only
        rows, more = await asyncio.to_thread(self._files.list, limit, after, order, purpose, whose)
        return JSONResponse(page([file_object(row) for row in rows], more))

    async def retrieve(self, file_id: str, asking: Asking) -> Response:
        """One file."""
        row = await asyncio.to_thread(self._files.get, file_id, asking.only)
        return JSONResponse(file_object(row))

    async def content(self, file_id: str, asking: Asking) -> Response:
        """The bytes of a file."""
        row = await asyncio.to_thread(self._files.get, file_id, asking.only)
        path = self._files.path(row.id)
        if not path.is_file():
            raise StoreError(f"the bytes of file `{file_id}` are missing: {path}", param="file_id")
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename=row.filename,
            headers={"etag": f'"{row.sha256}"'},
        )

    async def delete(self, file_id: str, asking: Asking) -> Response:
        """Delete a file; not while a job that has not ended uses it."""
        row = await asyncio.to_thread(self._files.delete, file_id, asking.only)
        return JSONResponse({"id": row.id, "object": "file", "deleted": True})


def body_limit(settings: Settings) -> Callable[[str], tuple[int, PayloadTooLarge] | None]:
    """For a path: how long the body may be and what to say beyond that; None where files are not
    received."""
    file_limit = settings.files_max_bytes
    file_error = PayloadTooLarge(
        f"the file is over {file_limit} bytes (setting `files_max_bytes`); POST /v1/uploads takes "
        "larger ones in parts",
        param="file",
    )
    part_error = PayloadTooLarge(
        f"a part may have at most {PART_MAX_BYTES} bytes; send smaller ones", param="data"
    )

    def of(path: str) -> tuple[int, PayloadTooLarge] | None:
        route = path.removeprefix("/v1").rstrip("/")
        if route == "/files":
            return file_limit + OVERHEAD_BYTES, file_error
        if route.startswith("/uploads/") and re.fullmatch("/uploads/[^/]+/parts", route):
            return PART_MAX_BYTES + OVERHEAD_BYTES, part_error
        return None

    return of


@asynccontextmanager
async def receiving(files: Files, request: Request) -> AsyncIterator[Incoming]:
    """A file to write the body into; removed unless it was kept. DiskFullError where the body would
    not fit."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        await asyncio.to_thread(files.disk.check_space, int(announced))
    incoming = await asyncio.to_thread(files.receive)
    try:
        yield incoming
    finally:
        # Removing a large file takes a while.
        await asyncio.shield(asyncio.to_thread(incoming.close))


def parsed(wanted: type[Wanted], body: dict[str, Any]) -> Wanted:
    """The fields checked, refused like those of a JSON body."""
    try:
        return wanted.model_validate(body)
    except ValidationError as error:
        found = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(found) from None


def _filename(form: Form) -> str:
    assert form.filename is not None
    return form.filename


def _nested(fields: dict[str, str]) -> dict[str, Any]:
    """`a[b]=c` as `{"a": {"b": "c"}}`, one level deep: what SDKs send for `expires_after`."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = BRACKETS.search(name)
        if inner is None:
            found[name] = value
        else:
            group = found.setdefault(name[: inner.start()], {})
            if isinstance(group, dict):
                group[inner[1]] = value
    return found
