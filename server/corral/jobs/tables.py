"""The queue's tables. The schema itself is in corral/migrations. Times are seconds since 1970, told
by the database's clock."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from corral.database import metadata

# The `not_before` of a paused job: the last second of the year 9999.
NEVER = 253_402_300_799.0

# `number` is the order of submission. `token` grows with every claim: who writes with an older one
# has lost the job. `attempts` counts claims since the last finished stage, or the last checkpoint.
jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("owner", String(200), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("status", String(20), nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("not_before", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("worker", String(200)),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("stage", String(40)),
    Column("stage_number", Integer),
    Column("stages", Integer),
    Column("progress", JSON),
    Column("result", JSON),
    Column("error", Text),
    Column("error_code", String(60)),
    Column("error_param", String(200)),
    Index("jobs_status_number", "status", "number"),
    sqlite_autoincrement=True,
)

job_events = Table(
    "job_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created", Double, nullable=False),
    Column("level", String(10), nullable=False),
    Column("type", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Column("data", JSON),
    Index("job_events_job_number", "job_id", "number"),
    sqlite_autoincrement=True,
)
