"""The registry: artifacts, aliases, counters, and the identity that ties a database to its blobs."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("base", sa.String(200)),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.UniqueConstraint("name", "revision", name="artifacts_name_revision"),
    )
    op.create_index("artifacts_base", "artifacts", ["base"])
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    identity = op.create_table("identity", sa.Column("id", sa.String(40), primary_key=True))
    op.bulk_insert(counters, [{"name": "catalog", "value": 0}])
    op.bulk_insert(identity, [{"id": uuid.uuid4().hex}])
