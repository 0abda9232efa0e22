"""Keys have a priority."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Add the column; keys that are there are of normal priority."""
    op.add_column(
        "keys", sa.Column("priority", sa.String(10), nullable=False, server_default="normal")
    )
