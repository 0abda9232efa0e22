"""The tables of keys and of what was used with them. The schema itself is in corral/migrations. Times
are seconds since 1970, told by the database's clock."""

from sqlalchemy import JSON, BigInteger, Column, Double, Index, String, Table

from corral.database import metadata

# Of a key only its digest is kept. `models`: the names it may use, null: all. `budget`: tokens in all.
# `changed`: what the counter of changes said when the row was written last.
keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(20), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("models", JSON(none_as_null=True)),
    Column("rpm", BigInteger),
    Column("tpm", BigInteger),
    Column("budget", BigInteger),
    Column("priority", String(10), nullable=False, server_default="normal"),
    Column("created", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked", Double),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Index("keys_changed", "changed"),
)

# `day` is `YYYY-MM-DD` in UTC. `key_id` stays when the key is gone; `model` is empty where none was found.
usage = Table(
    "usage",
    metadata,
    Column("key_id", String(40), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("generated_tokens", BigInteger, nullable=False),
    Index("usage_day", "day"),
)
