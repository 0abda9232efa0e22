"""What clients send and see of files and uploads."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field
from sqlalchemy import RowMapping

from corral.files.tables import FileRow
from corral.files.uploads import UPLOAD_MAX_BYTES, Upload
from corral.openapi import Shown

# What may be uploaded, and what jobs make.
Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Made = Literal["assistants_output", "batch_output", "fine-tune-results"]
PURPOSES: tuple[str, ...] = (*get_args(Purpose), *get_args(Made))
MIN_SECONDS, MAX_SECONDS = 3600, 2592000


class ExpiresAfter(BaseModel):
    """When a file is to vanish."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_SECONDS, le=MAX_SECONDS)


class FileRequest(BaseModel):
    """The fields of `POST /v1/files` beside the file itself. Unknown ones are ignored."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class UploadRequest(BaseModel):
    """`POST /v1/uploads`."""

    bytes: int = Field(strict=True, ge=1, le=UPLOAD_MAX_BYTES)
    filename: str = Field(min_length=1, max_length=255)
    mime_type: str = Field(min_length=1, max_length=255)
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CompleteRequest(BaseModel):
    """`POST /v1/uploads/{id}/complete`."""

    part_ids: list[Annotated[str, Field(max_length=100)]] = Field(min_length=1, max_length=100_000)
    md5: str | None = Field(None, pattern="^[0-9a-fA-F]{32}$")


class ShownFile(Shown):
    """`file_object`."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose | Made
    status: str
    status_details: None
    sha256: str


class ShownUpload(Shown):
    """`upload_object`."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: ShownFile | None


class ShownPart(Shown):
    """`part_object`."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class DeletedFile(Shown):
    """The answer to DELETE."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


def file_object(row: FileRow) -> dict[str, Any]:
    """A file as the API shows it: OpenAI's object, and the hash of its bytes."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created),
        "expires_at": None if row.expires_at is None else int(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "status_details": None,
        "sha256": row.sha256,
    }


def upload_object(upload: Upload) -> dict[str, Any]:
    """An upload as the API shows it."""
    row = upload.row
    return {
        "id": row["id"],
        "object": "upload",
        "bytes": row["bytes"],
        "created_at": int(row["created"]),
        "expires_at": int(row["expires_at"]),
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": upload.status,
        "file": None if upload.file is None else file_object(upload.file),
    }


def part_object(row: RowMapping) -> dict[str, Any]:
    """A part as the API shows it."""
    return {
        "id": row["id"],
        "object": "upload.part",
        "created_at": int(row["created"]),
        "upload_id": row["upload_id"],
    }
