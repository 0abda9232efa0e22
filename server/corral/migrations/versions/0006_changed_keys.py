"""Keys tell at which change of the keys they were last changed, so that a gateway reads no others."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Add the column and its index; a gateway that starts reads all keys anyhow."""
    op.add_column("keys", sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("keys_changed", "keys", ["changed"])
