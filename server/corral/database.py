"""The database: one engine per address, transactions, and the schema's upgrade.

Synchronous everywhere (docs/adr/0006-one-synchronous-database-layer.md): call it from async code
through `asyncio.to_thread`. Tables are declared beside the code that owns them, on `metadata`;
the schema itself is made by the revisions in `corral/migrations`.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from corral.errors import CorralError, DiskFullError, SettingsError, StoreError
from corral.settings import Settings

metadata = MetaData()

VERSIONS = Path(__file__).parent / "migrations" / "versions"
# How long a writer waits for another one, in seconds. Transactions here take milliseconds.
BUSY_SECONDS = 30
# Engines kept; a process has one, tests have many.
KEPT_ENGINES = 4
# The advisory lock of PostgreSQL that migrations take; any fixed number would do.
MIGRATION_LOCK = 0x636F7272616C

_engines: dict[str, Engine] = {}
# The addresses whose schema was brought up to date, each with the file that was there then.
_upgraded: dict[str, tuple[int, int] | None] = {}
_lock = threading.RLock()


def engine(settings: Settings) -> Engine:
    """The engine of `settings.database`, one per address. Touches no file until it connects."""
    address = settings.database
    with _lock:
        if address not in _engines:
            while len(_engines) >= KEPT_ENGINES:
                oldest = next(iter(_engines))
                _engines.pop(oldest).dispose()
                _upgraded.pop(oldest, None)
            _engines[address] = _create(address)
        return _engines[address]


def ready(settings: Settings) -> Engine:
    """The engine with its schema up to date: checked once per process, address and file."""
    made, address = engine(settings), settings.database
    with _lock:
        if address not in _upgraded or _upgraded[address] != _file(settings):
            # Connections to a file that was moved or deleted would go on using it; and a connection
            # made in that moment leaves an empty file in its place.
            made.dispose()
            upgrade(made)
            _upgraded[address] = _file(settings)
    return made


def exists(settings: Settings) -> bool:
    """Whether there is a database to read, as far as can be told without connecting."""
    return settings.database_file is None or settings.database_file.exists()


def _file(settings: Settings) -> tuple[int, int] | None:
    """Which file the database is, by device and inode; None where there is none or it is no file."""
    try:
        found = settings.database_file.stat() if settings.database_file else None
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if found else None


@contextmanager
def reading(made: Engine) -> Iterator[Connection]:
    """A connection with one consistent view; nothing is written."""
    with _told(made), made.connect() as connection:
        yield connection


@contextmanager
def writing(made: Engine) -> Iterator[Connection]:
    """A transaction that may write: whole at the end, or nothing after an exception. On SQLite it
    is the only one from its first moment, so what it reads cannot change before it writes."""
    options = {"writes": True}
    with _told(made), made.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def upgrade(made: Engine) -> None:
    """Bring the schema to this version of Corral. Safe in several processes at once."""
    try:
        with _told(made):
            if _revision(made) != head():
                with _one_at_a_time(made):
                    _migrate(made)
    except OSError as error:
        raise _explained(made, error.strerror or str(error)) from error


def head() -> str:
    """The newest revision that this Corral knows."""
    return max(path.name[:4] for path in VERSIONS.glob("[0-9]*_*.py"))


def _create(address: str) -> Engine:
    try:
        url = make_url(address)
        sqlite = url.get_backend_name() == "sqlite"
        made = create_engine(url, **(_sqlite_options(url.database) if sqlite else {}))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise SettingsError(
            f"setting `database_url` cannot be used: {error}; it looks like "
            "`sqlite:////srv/corral/corral.db`",
            param="database_url",
        ) from error
    if sqlite:
        event.listen(made, "connect", _on_connect)
        event.listen(made, "begin", _on_begin)
    return made


def _sqlite_options(file: str | None) -> dict[str, Any]:
    """How to open `file`. One in a folder that cannot be written to is opened as unchanging:
    SQLite would else ask for two files beside it, and refuse to read."""
    effective = os.access in os.supports_effective_ids
    if (
        file
        and Path(file).exists()
        and not os.access(Path(file).parent, os.W_OK, effective_ids=effective)
    ):
        address = f"file:{quote(file)}?immutable=1"
        return {"creator": lambda: sqlite3.connect(address, uri=True, check_same_thread=False)}
    return {"connect_args": {"timeout": BUSY_SECONDS}}


def _on_connect(connection: Any, _record: Any) -> None:
    # The driver would begin a transaction only at the first change, and so read outside of it;
    # `_on_begin` says BEGIN itself.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Some builds of SQLite default to less with WAL: a power cut could then undo a commit.
    connection.execute("PRAGMA synchronous = FULL")


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(made: Engine) -> str | None:
    if made.dialect.name == "sqlite" and not Path(made.url.database or "").exists():
        return None
    with made.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found > head():
        raise StoreError(
            f"the database {_where(made)} is of a newer Corral (revision {found}, this one knows "
            f"{head()}); use that one, or another data directory"
        )
    return found


def _one_at_a_time(made: Engine) -> AbstractContextManager[Any]:
    """Held by the process that migrates. A file, because SQLite's change to WAL does not wait for
    other connections, it fails; PostgreSQL takes a lock of its own in `_migrate`."""
    if made.dialect.name != "sqlite":
        return nullcontext()
    file = Path(made.url.database or "")
    file.parent.mkdir(parents=True, exist_ok=True)
    return _locked(file.with_name(file.name + ".lock"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _migrate(made: Engine) -> None:
    # Alembic takes 0.1 s to import: only when there is something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "corral:migrations")
    config.set_main_option("path_separator", "os")
    if made.dialect.name == "sqlite":
        with closing(made.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
    with writing(made) as connection:
        if made.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _told(made: Engine) -> Iterator[None]:
    """Turns trouble with the database into an error that says what to do; a bug stays as it is."""
    try:
        yield
    except DatabaseError as error:
        if type(error) not in (DatabaseError, OperationalError):
            raise
        raise _explained(made, str(error.orig)) from error


def _explained(made: Engine, said: str) -> CorralError:
    where = _where(made)
    if "disk is full" in said or "No space left" in said:
        return DiskFullError(f"the disk of the database {where} is full; free some space")
    advice = "see that the data directory exists, is writable, and on a local disk"
    if "locked" in said:
        advice = f"another process held it for over {BUSY_SECONDS} s; end that one"
    if "not a database" in said or "malformed" in said:
        advice = "restore it from a backup, or move it away together with blobs/ and shelf/"
    return StoreError(f"the database {where} cannot be used: {said}; {advice}")


def _where(made: Engine) -> str:
    return made.url.render_as_string(hide_password=True).removeprefix("sqlite:///")
