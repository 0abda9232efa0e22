"""The tables of files and uploads. The schema itself is in corral/migrations. Times are seconds since
1970, told by the database's clock."""

from dataclasses import dataclass, fields
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
)

from corral.database import metadata

# `number` is the order of arrival. `gone`: deleted or expired then; the row stays for a while, so that
# a client that deletes as it lists can go on behind it.
files = Table(
    "files",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("owner", String(200), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("expires_at", Double),
    Column("status", String(20), nullable=False),
    Column("job_id", String(40)),
    Column("gone", Double),
    Index("files_purpose_number", "purpose", "number"),
    sqlite_autoincrement=True,
)

# `seconds`: how long the file lives that the upload becomes.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("mime_type", String(255), nullable=False),
    Column("purpose", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seconds", Integer),
    Column("created", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("status", String(20), nullable=False),
    Column("file_id", String(40)),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("upload_id", String(40), ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Index("upload_parts_upload", "upload_id"),
)


@dataclass(frozen=True)
class FileRow:
    """A file that is there. `job_id` is the job that made it, if one did."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created: float
    expires_at: float | None
    status: str
    job_id: str | None

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The file that a row of `files` tells of."""
        values: dict[str, Any] = {field.name: row[field.name] for field in fields(cls)}
        return cls(**values)
