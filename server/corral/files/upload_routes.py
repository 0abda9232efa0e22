"""/v1/uploads: create, add parts, complete, cancel. Thin: `Uploads` does the work."""

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from corral.asking import Asking
from corral.files.multipart import read_form, whole_body
from corral.files.routes import receiving
from corral.files.schemas import (
    CompleteRequest,
    ShownPart,
    ShownUpload,
    UploadRequest,
    part_object,
    upload_object,
)
from corral.files.store import Files
from corral.files.uploads import PART_MAX_BYTES, Uploads
from corral.settings import Settings

PART_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary", "minLength": 1}},
                }
            }
        },
    }
}


class UploadRoutes:
    """The endpoints over one store."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._files = files
        self._uploads = Uploads(settings, files)

    def router(self) -> APIRouter:
        """The router to include in the application."""
        made = APIRouter(tags=["uploads"])
        for prefix in ("/v1/uploads", "/uploads"):
            shown = prefix.startswith("/v1")
            one = prefix + "/{upload_id}"
            add = made.add_api_route
            add(
                one + "/parts",
                self.add_part,
                methods=["POST"],
                include_in_schema=shown,
                openapi_extra=PART_BODY,
                response_model=ShownPart,
            )
            for path, route in (
                (prefix, self.create),
                (one + "/complete", self.complete),
                (one + "/cancel", self.cancel),
            ):
                add(
                    path,
                    route,
                    methods=["POST"],
                    include_in_schema=shown,
                    response_model=ShownUpload,
                )
        return made

    async def create(self, request: UploadRequest, asking: Asking) -> Response:
        """Begin an upload."""
        upload = await asyncio.to_thread(
            self._uploads.create,
            filename=request.filename,
            mime_type=request.mime_type,
            purpose=request.purpose,
            bytes=request.bytes,
            seconds=request.expires_after.seconds if request.expires_after else None,
            owner=asking.owner,
        )
        return JSONResponse(upload_object(upload))

    async def add_part(self, upload_id: str, request: Request, asking: Asking) -> Response:
        """Add a part, up to 64 MiB."""
        async with whole_body(request):
            await asyncio.to_thread(self._uploads.check_open, upload_id, asking.only)
            async with receiving(self._files, request) as incoming:
                await read_form(request, "data", incoming, PART_MAX_BYTES)
                add = self._uploads.add_part
                row = await asyncio.to_thread(add, upload_id, incoming, asking.only)
        return JSONResponse(part_object(row))

    async def complete(self, upload_id: str, request: CompleteRequest, asking: Asking) -> Response:
        """Join the parts in this order; the upload with its file."""
        upload = await asyncio.to_thread(
            self._uploads.complete, upload_id, request.part_ids, request.md5, asking.only
        )
        return JSONResponse(upload_object(upload))

    async def cancel(self, upload_id: str, asking: Asking) -> Response:
        """End the upload; its parts are removed."""
        gone = await asyncio.to_thread(self._uploads.cancel, upload_id, asking.only)
        return JSONResponse(upload_object(gone))
