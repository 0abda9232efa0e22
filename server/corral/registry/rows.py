"""The registry's statements: everything here runs inside a transaction that the caller opened."""

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from corral.registry.manifest import Manifest
from corral.registry.tables import aliases, artifacts, counters, identity

ArtifactRow = Row[Any]


def database_id(connection: Connection) -> str:
    """What ties this database to its blobs."""
    return str(connection.execute(select(identity.c.id)).scalar_one())


def version(connection: Connection) -> int:
    """How often what is served has changed."""
    found = select(counters.c.value).where(counters.c.name == "catalog")
    return int(connection.execute(found).scalar_one())


def count_change(connection: Connection) -> None:
    """Tell those who watch `version` that what is served has changed."""
    grown = update(counters).where(counters.c.name == "catalog")
    connection.execute(grown.values(value=counters.c.value + 1))


def of_name(connection: Connection, name: str) -> list[ArtifactRow]:
    """All revisions of a name, the newest first."""
    found = select(artifacts).where(artifacts.c.name == name)
    return list(connection.execute(found.order_by(artifacts.c.revision.desc())))


def newest(connection: Connection) -> list[ArtifactRow]:
    """The newest revision of every name, by name."""
    top = (
        select(artifacts.c.name, func.max(artifacts.c.revision).label("revision"))
        .group_by(artifacts.c.name)
        .subquery()
    )
    found = select(artifacts).join(
        top, (artifacts.c.name == top.c.name) & (artifacts.c.revision == top.c.revision)
    )
    return list(connection.execute(found.order_by(artifacts.c.name)))


def everything(connection: Connection) -> list[ArtifactRow]:
    """Every revision of every name."""
    found = select(artifacts).order_by(artifacts.c.name, artifacts.c.revision)
    return list(connection.execute(found))


def add(connection: Connection, id: str, manifest: Manifest, facts: dict[str, Any]) -> None:
    """One more revision; `manifest` has its number, owner and time."""
    assert manifest.created is not None
    connection.execute(
        insert(artifacts).values(
            id=id,
            name=manifest.name,
            revision=manifest.revision,
            kind=manifest.kind,
            owner=manifest.owner,
            created=int(manifest.created.timestamp()),
            base=manifest.base.name if manifest.base and manifest.kind == "adapter" else None,
            manifest=manifest.model_dump(mode="json"),
            facts=facts,
        )
    )


def set_manifest(connection: Connection, id: str, manifest: Manifest) -> None:
    """Change what is recorded of a revision, not what is served."""
    changed = update(artifacts).where(artifacts.c.id == id)
    connection.execute(changed.values(manifest=manifest.model_dump(mode="json")))


def drop(connection: Connection, ids: list[str]) -> None:
    """Forget these revisions."""
    connection.execute(delete(artifacts).where(artifacts.c.id.in_(ids)))


def adapters_of(connection: Connection, name: str) -> list[str]:
    """The adapters that need this base."""
    found = select(artifacts.c.name).where(artifacts.c.base == name).distinct()
    return list(connection.execute(found.order_by(artifacts.c.name)).scalars())


def all_aliases(connection: Connection) -> dict[str, str]:
    """Alias -> name."""
    found = select(aliases.c.name, aliases.c.target).order_by(aliases.c.name)
    return {row.name: row.target for row in connection.execute(found)}


def set_alias(connection: Connection, name: str, target: str | None, owner: str = "local") -> None:
    """Make, change or (without a target) remove an alias."""
    connection.execute(delete(aliases).where(aliases.c.name == name))
    if target is not None:
        connection.execute(insert(aliases).values(name=name, target=target, owner=owner))


def drop_aliases_of(connection: Connection, target: str) -> list[str]:
    """Remove the aliases of a name that is gone; which they were."""
    gone = [name for name, to in all_aliases(connection).items() if to == target]
    connection.execute(delete(aliases).where(aliases.c.target == target))
    return gone
