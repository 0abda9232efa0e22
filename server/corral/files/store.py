"""Files: rows in the database, bytes on disk. A file is there when its row is committed.

The order of an add: bytes under their final name, then the row; of a removal: the row, then the
bytes. What a killed process leaves is named by no row, and `sweep` removes it. Synchronous, safe in
any number of threads and processes: call it from async code through a thread.
"""

import builtins
import json
import secrets
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)

from corral import database
from corral.errors import BadRequest, Conflict, NotFound
from corral.files.disk import FileDisk, Incoming
from corral.files.tables import FileRow, files, upload_parts, uploads
from corral.jobs.clock import now
from corral.jobs.queue import ENDED, of_owner
from corral.jobs.tables import jobs
from corral.registry.disk import CHUNK
from corral.settings import Settings

Order = Literal["asc", "desc"]
FILENAME_MAX = 255
# How long the rows of what is gone are kept, for clients that list meanwhile.
KEPT_SECONDS = 86400.0


class Files:
    """The files of one data directory. Cheap to make; makes nothing before the first change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.disk = FileDisk(settings.data_dir)

    # ---- what is there ---------------------------------------------------------------------------

    def get(self, id: str, owner: str | None = None, *, param: str = "file_id") -> FileRow:
        """The file with this id; NotFound, naming `param`, when there is none or it has expired."""
        where = and_(files.c.id == id, _there(), of_owner(files.c.owner, owner))
        with database.reading(database.ready(self._settings)) as connection:
            row = _one(connection, where)
        if row is None:
            raise _unknown(id, param)
        return FileRow.of(row)

    def path(self, id: str) -> Path:
        """Where the bytes are of a file that `get` has given. They stay while an open job names it."""
        return self.disk.path(id)

    def list(
        self,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        purpose: str | None = None,
        owner: str | None = None,
    ) -> tuple[builtins.list[FileRow], bool]:
        """At most `limit` files, the newest first (`desc`), from behind the file `after`, which may
        have been deleted since; and whether more follow."""
        number = files.c.number
        query = select(files).where(_there(), of_owner(files.c.owner, owner)).limit(limit + 1)
        query = query.order_by(number.desc() if order == "desc" else number)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        with database.reading(database.ready(self._settings)) as connection:
            if after is not None:
                last = _one(connection, and_(files.c.id == after, of_owner(files.c.owner, owner)))
                if last is None:
                    raise _unknown(after, "after")
                at = last["number"]
                query = query.where(number < at if order == "desc" else number > at)
            rows = [FileRow.of(row) for row in connection.execute(query).mappings()]
        return rows[:limit], len(rows) > limit

    # ---- changes ---------------------------------------------------------------------------------

    def receive(self) -> Incoming:
        """A file to write into, then to `keep`; used in a `with` block, which removes it otherwise."""
        return self.disk.incoming()

    def keep(
        self,
        incoming: Incoming,
        *,
        filename: str,
        purpose: str,
        owner: str = "local",
        seconds: int | None = None,
        file_id: str | None = None,
        job_id: str | None = None,
        upload_id: str | None = None,
    ) -> FileRow:
        """Make what was received a file, which expires after `seconds`. With `file_id`: the same
        bytes under the same id are no change. With `upload_id`: that upload is completed by it, or
        Conflict when it is no longer pending."""
        check_filename(filename)
        incoming.flush()
        values: dict[str, Any] = {
            "id": file_id or new_id("file-"),
            "owner": owner,
            "filename": filename,
            "purpose": purpose,
            "bytes": incoming.bytes,
            "sha256": incoming.sha256,
            "created": now(),
            "expires_at": None if seconds is None else now() + seconds,
            "status": "processed",
            "job_id": job_id,
        }
        engine = database.ready(self._settings)
        with self.disk.naming(), database.writing(engine) as connection:
            there = self._already(connection, values)
            if there is not None:
                return there
            if upload_id is not None:
                _complete(connection, upload_id, values["id"])
            made = insert(files).values(values).returning(files)
            row = FileRow.of(connection.execute(made).mappings().one())
            incoming.name(row.id)  # last: if the transaction fails before, nothing is left
        return row

    def add_local(
        self,
        path: Path,
        *,
        filename: str,
        purpose: str,
        file_id: str | None = None,
        job_id: str | None = None,
        owner: str = "local",
    ) -> FileRow:
        """A copy of a file of this machine. With `file_id` it may be repeated: the same bytes under
        the same id are no change, other bytes a Conflict."""
        self.disk.check_space(path.stat().st_size)
        with self.receive() as incoming, path.open("rb") as source:
            while chunk := source.read(CHUNK):
                incoming.write(chunk)
            return self.keep(
                incoming,
                filename=filename,
                purpose=purpose,
                owner=owner,
                file_id=file_id,
                job_id=job_id,
            )

    def delete(self, id: str, owner: str | None = None) -> FileRow:
        """Forget the file and remove its bytes; what it was. Conflict while an open job names it."""
        row = self.get(id, owner)
        with self.disk.removing():
            with database.writing(database.ready(self._settings)) as connection:
                _check_unused(connection, id)
                there = and_(files.c.id == id, files.c.gone.is_(None))
                if connection.execute(update(files).where(there).values(gone=now())).rowcount == 0:
                    raise _unknown(id, "file_id")
            self.disk.remove(id)
        return row

    def sweep(self) -> builtins.list[tuple[Path, int]]:
        """Remove what has expired, and what killed processes have left; the paths removed and their
        bytes. What is being received is left alone."""
        if not database.exists(self._settings) or not self.disk.root.is_dir():
            return []
        engine = database.ready(self._settings)
        with self.disk.removing():
            with database.writing(engine) as connection:
                _expire(connection)
            with database.reading(engine) as connection:
                known = _known(connection)
            named = [path for path in self.disk.named() if path.name not in known]
            left = [(path, path.stat().st_size) for path in named]
            for path in named:
                self.disk.remove(path.name)
        return left + self.disk.sweep_temporary()

    def _already(self, connection: Connection, values: dict[str, Any]) -> FileRow | None:
        """The file of this id if it is there with the same bytes; the row of one that is gone makes
        room."""
        row = _one(connection, files.c.id == values["id"])
        if row is None:
            return None
        if row["gone"] is not None:
            connection.execute(delete(files).where(files.c.id == values["id"]))
            return None
        if row["sha256"] != values["sha256"]:
            raise Conflict(f"file `{values['id']}` is there with other bytes", param="file_id")
        return FileRow.of(row)


def new_id(prefix: str) -> str:
    """A new id: the prefix and 24 hexadecimal digits."""
    return prefix + secrets.token_hex(12)


def check_filename(filename: str, param: str = "file") -> None:
    """BadRequest unless it can be stored and shown. It is never a path here."""
    if not filename or len(filename) > FILENAME_MAX or not filename.isprintable():
        raise BadRequest(
            f"the file's name must have 1 to {FILENAME_MAX} printable characters, not "
            f"{filename[:80]!r}",
            param=param,
        )


def _there() -> ColumnElement[bool]:
    lives = or_(files.c.expires_at.is_(None), files.c.expires_at > now())
    return and_(files.c.gone.is_(None), lives)


def _one(connection: Connection, where: ColumnElement[bool]) -> RowMapping | None:
    return connection.execute(select(files).where(where)).mappings().one_or_none()


def _unknown(id: str, param: str) -> NotFound:
    return NotFound(
        f"there is no file `{id}`; GET /v1/files or `corral files ls` lists them", param=param
    )


def _complete(connection: Connection, upload_id: str, file_id: str) -> None:
    pending = and_(uploads.c.status == "pending", uploads.c.expires_at > now())
    open_one = and_(uploads.c.id == upload_id, pending)
    done = update(uploads).where(open_one).values(status="completed", file_id=file_id)
    if connection.execute(done).rowcount == 0:
        raise Conflict(f"upload `{upload_id}` is no longer pending", param="upload_id")
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))


def _known(connection: Connection) -> set[str]:
    """The ids of all files and parts that are there."""
    found = set(connection.execute(select(files.c.id).where(files.c.gone.is_(None))).scalars())
    return found | set(connection.execute(select(upload_parts.c.id)).scalars())


def _users(connection: Connection, id: str) -> builtins.list[str]:
    """The jobs that have not ended and whose spec names the file."""
    query = select(jobs.c.id, jobs.c.spec).where(jobs.c.status.not_in(ENDED))
    return [row.id for row in connection.execute(query) if f'"{id}"' in json.dumps(row.spec)]


def _check_unused(connection: Connection, id: str) -> None:
    users = _users(connection, id)
    if users:
        raise Conflict(
            f"file `{id}` is used by job {users[0]}, which has not ended; cancel that job, or wait "
            "for it",
            param="file_id",
            code="file_in_use",
        )


def _expire(connection: Connection) -> None:
    over = select(files.c.id).where(files.c.gone.is_(None), files.c.expires_at <= now())
    for id in connection.execute(over).scalars().all():
        if not _users(connection, id):
            connection.execute(update(files).where(files.c.id == id).values(gone=now()))
    connection.execute(delete(files).where(files.c.gone < now() - KEPT_SECONDS))
    late = and_(uploads.c.status == "pending", uploads.c.expires_at <= now())
    connection.execute(update(uploads).where(late).values(status="expired"))
    ended = select(uploads.c.id).where(uploads.c.status != "pending")
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id.in_(ended)))
    old = uploads.c.created < now() - KEPT_SECONDS
    connection.execute(delete(uploads).where(uploads.c.status != "pending", old))
