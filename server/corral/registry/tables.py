"""The registry's tables. The schema itself is in corral/migrations."""

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table, UniqueConstraint

from corral.database import metadata

# One row per revision; the highest of a name is the one that is served. `manifest` is the whole
# Manifest, `base` copied out of it for adapters, `facts` what the weights' header says.
artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("base", String(200), index=True),
    Column("manifest", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    UniqueConstraint("name", "revision", name="artifacts_name_revision"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("target", String(200), nullable=False),
    Column("owner", String(200), nullable=False),
)

# `catalog` grows by one in every transaction that changes what is served.
counters = Table(
    "counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# One row, made with the database: the blobs carry the same id, so that a garbage collection never
# goes by another database.
identity = Table("identity", metadata, Column("id", String(40), primary_key=True))
