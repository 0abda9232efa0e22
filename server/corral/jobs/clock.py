"""The database's clock as an SQL expression: workers on several machines agree about a lease."""

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):
    """Seconds since 1970, with a fraction of milliseconds or finer. Spelt like an SQL function."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(_element: Any, _compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('subsec') would be plainer, but needs SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql(_element: Any, _compiler: SQLCompiler, **_: Any) -> str:
    # Not now(): that stands still within a transaction.
    return "extract(epoch from clock_timestamp())::double precision"
