"""Uploads: a large file in parts, in any order, at most an hour; then a file like any other.

pending ──complete──► completed        Parts are files of their own under files/parts until then.
   ├─────cancel─────► cancelled        Completing joins them in the order asked for: it needs their
   └────an hour─────► expired          size once more on the disk while it runs.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, and_, case, delete, func, insert, select, update

from corral import database
from corral.errors import BadRequest, Conflict, NotFound, PayloadTooLarge
from corral.files.disk import Incoming
from corral.files.store import Files, check_filename, new_id
from corral.files.tables import FileRow, upload_parts, uploads
from corral.jobs.clock import now
from corral.jobs.queue import of_owner
from corral.registry.disk import CHUNK
from corral.settings import Settings

Status = Literal["pending", "completed", "cancelled", "expired"]
PART_MAX_BYTES = 64 * 1024 * 1024
UPLOAD_MAX_BYTES = 8 * 1024**3
LIFE_SECONDS = 3600.0


@dataclass(frozen=True)
class Upload:
    """An upload as it stands; `file` once it is completed, while that file is there."""

    row: RowMapping
    status: Status
    file: FileRow | None = None


class Uploads:
    """The uploads of one data directory; what they become is kept by `files`."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings, self._files = settings, files

    def create(
        self,
        *,
        filename: str,
        mime_type: str,
        purpose: str,
        bytes: int,
        seconds: int | None = None,
        owner: str = "local",
    ) -> Upload:
        """Begin an upload of so many bytes; the file will expire after `seconds`."""
        check_filename(filename, "filename")
        self._files.disk.check_space(bytes)
        values: dict[str, Any] = {
            "id": new_id("upload_"),
            "owner": owner,
            "filename": filename,
            "mime_type": mime_type,
            "purpose": purpose,
            "bytes": bytes,
            "seconds": seconds,
            "created": now(),
            "expires_at": now() + LIFE_SECONDS,
            "status": "pending",
        }
        with database.writing(database.ready(self._settings)) as connection:
            made = insert(uploads).values(values).returning(uploads)
            return Upload(connection.execute(made).mappings().one(), "pending")

    def get(self, upload_id: str, owner: str | None = None) -> Upload:
        """The upload; NotFound, also when it is not this owner's."""
        with database.reading(database.ready(self._settings)) as connection:
            row, status = _get(connection, upload_id, owner)
        return Upload(row, status, self._file(row))

    def check_open(self, upload_id: str, owner: str | None = None) -> None:
        """Conflict unless parts may be added."""
        _check_pending(upload_id, self.get(upload_id, owner).status)

    def add_part(self, upload_id: str, incoming: Incoming, owner: str | None = None) -> RowMapping:
        """Keep what was received as a part; its row."""
        incoming.flush()
        values = {
            "id": new_id("part_"),
            "upload_id": upload_id,
            "bytes": incoming.bytes,
            "created": now(),
        }
        engine = database.ready(self._settings)
        with self._files.disk.naming(), database.writing(engine) as connection:
            _check_pending(upload_id, _get(connection, upload_id, owner)[1])
            _check_total(connection, upload_id, incoming.bytes)
            made = insert(upload_parts).values(values).returning(upload_parts)
            row = connection.execute(made).mappings().one()
            incoming.name(row["id"])
        return row

    def complete(
        self, upload_id: str, part_ids: Sequence[str], md5: str | None, owner: str | None = None
    ) -> Upload:
        """Join the parts to a file. A completed upload is given as it is: a client that lost the
        answer may ask again."""
        there = self.get(upload_id, owner)
        if there.status == "completed":
            return there
        _check_pending(upload_id, there.status)
        sizes = self._parts(upload_id)
        _check_parts(there.row, sizes, part_ids)
        self._files.disk.check_space(there.row["bytes"])
        with self._files.receive() as incoming:
            found = self._join(part_ids, incoming)
            if md5 is not None and md5.lower() != found:
                raise BadRequest(
                    f"the parts together have the md5 {found}, not {md5}; send them again",
                    param="md5",
                )
            self._files.keep(
                incoming,
                filename=there.row["filename"],
                purpose=there.row["purpose"],
                owner=there.row["owner"],
                seconds=there.row["seconds"],
                upload_id=upload_id,
            )
        for part_id in sizes:
            self._files.disk.remove(part_id)
        return self.get(upload_id)

    def cancel(self, upload_id: str, owner: str | None = None) -> Upload:
        """End a pending upload and remove its parts; asking again changes nothing."""
        engine = database.ready(self._settings)
        with self._files.disk.removing():
            with database.writing(engine) as connection:
                row, status = _get(connection, upload_id, owner)
                if status == "cancelled":
                    return Upload(row, status)
                _check_pending(upload_id, status)
                ended = update(uploads).where(uploads.c.id == upload_id)
                connection.execute(ended.values(status="cancelled"))
                gone = delete(upload_parts).where(upload_parts.c.upload_id == upload_id)
                parts = connection.execute(gone.returning(upload_parts.c.id)).scalars().all()
            for part_id in parts:
                self._files.disk.remove(part_id)
        return Upload(row, "cancelled")

    def _parts(self, upload_id: str) -> dict[str, int]:
        """Its parts and their sizes."""
        query = select(upload_parts.c.id, upload_parts.c.bytes)
        with database.reading(database.ready(self._settings)) as connection:
            rows = connection.execute(query.where(upload_parts.c.upload_id == upload_id))
            return {row.id: row.bytes for row in rows}

    def _join(self, part_ids: Sequence[str], incoming: Incoming) -> str:
        """Write the parts one behind the other; the md5 of the whole."""
        md5 = hashlib.md5(usedforsecurity=False)
        for part_id in part_ids:
            with self._files.disk.told(), self._files.path(part_id).open("rb") as part:
                while chunk := part.read(CHUNK):
                    md5.update(chunk)
                    incoming.write(chunk)
        return md5.hexdigest()

    def _file(self, row: RowMapping) -> FileRow | None:
        """The file that the upload has become, until it is deleted."""
        if row["file_id"] is None:
            return None
        with suppress(NotFound):
            return self._files.get(row["file_id"])
        return None


def _get(
    connection: Connection, upload_id: str, owner: str | None = None
) -> tuple[RowMapping, Status]:
    late = and_(uploads.c.status == "pending", uploads.c.expires_at <= now())
    status = case((late, "expired"), else_=uploads.c.status).label("status_now")
    query = select(uploads, status).where(uploads.c.id == upload_id)
    query = query.where(of_owner(uploads.c.owner, owner))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no upload `{upload_id}`", param="upload_id")
    return row, row["status_now"]


def _check_pending(upload_id: str, status: Status) -> None:
    if status != "pending":
        raise Conflict(
            f"upload `{upload_id}` is {status}; begin another one with POST /v1/uploads",
            param="upload_id",
        )


def _check_total(connection: Connection, upload_id: str, more: int) -> None:
    query = select(func.coalesce(func.sum(upload_parts.c.bytes), 0))
    total = connection.execute(query.where(upload_parts.c.upload_id == upload_id)).scalar_one()
    if total + more > UPLOAD_MAX_BYTES:
        raise PayloadTooLarge(
            f"the parts of upload `{upload_id}` would be over {UPLOAD_MAX_BYTES} bytes together",
            param="data",
        )


def _check_parts(row: RowMapping, sizes: dict[str, int], part_ids: Sequence[str]) -> None:
    unknown = [id for id in part_ids if id not in sizes]
    if unknown:
        raise BadRequest(f"upload `{row['id']}` has no part `{unknown[0]}`", param="part_ids")
    if len(set(part_ids)) < len(part_ids):
        raise BadRequest("a part may be named once only", param="part_ids")
    total = sum(sizes[id] for id in part_ids)
    if total != row["bytes"]:
        raise BadRequest(
            f"the parts have {total} bytes together, the upload was to have {row['bytes']}; add what "
            "is missing, or begin another upload",
            param="part_ids",
        )
