"""What was used, by key, model and day: gathered in memory, stored every few seconds and at the end.

A process that is killed loses what came since it stored last, FLUSH_SECONDS at most. While the database
cannot be written everything is kept and tried again.
"""

import asyncio
import datetime
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects import postgresql, sqlite

from corral import database
from corral.errors import CorralError
from corral.keys.schemas import UsageQuery
from corral.keys.tables import keys, usage
from corral.settings import Settings

FLUSH_SECONDS = 2.0
DAY_SECONDS = 86400
COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "generated_tokens")
# Rows of one statement: SQLite takes 32,766 values.
BATCH = 500

Place = tuple[str, str, int]
Pending = dict[Place, list[int]]


class Ledger:
    """The usage that one process has seen. One event loop's."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        self._pending: Pending = {}
        self._storing = asyncio.Lock()

    def add(self, key_id: str, model: str, counts: tuple[int, int, int, int, int]) -> None:
        """Count one request; `counts` in the order of COUNTS."""
        place = (key_id, model, int(self._clock() // DAY_SECONDS))
        there = self._pending.get(place)
        if there is None:
            self._pending[place] = list(counts)
            return
        for index, count in enumerate(counts):
            there[index] += count

    def tokens(self, key_id: str) -> int:
        """The tokens used with this key that are not stored yet, unless `flush` is at it."""
        return sum(n[2] + n[4] for (id, _, _), n in self._pending.items() if id == key_id)

    async def flush(self) -> None:
        """Store what has come, once there is a database. CorralError: it is kept. Not to be cancelled:
        what is being stored would be forgotten where that fails."""
        async with self._storing:
            if not self._pending or not database.exists(self._settings):
                return
            taken, self._pending = self._pending, {}
            try:
                await asyncio.to_thread(_store, self._settings, taken)
            except CorralError:
                self._put_back(taken)
                raise

    def _put_back(self, taken: Pending) -> None:
        for place, counts in taken.items():
            there = self._pending.setdefault(place, [0] * len(COUNTS))
            for index, count in enumerate(counts):
                there[index] += count


def _store(settings: Settings, taken: Pending) -> None:
    engine = database.ready(settings)
    rows = [
        {
            "key_id": key_id,
            "model": model,
            "day": _date(day),
            **dict(zip(COUNTS, counts, strict=True)),
        }
        for (key_id, model, day), counts in taken.items()
    ]
    with database.writing(engine) as connection:
        for start in range(0, len(rows), BATCH):
            connection.execute(_upsert(engine, rows[start : start + BATCH]))


def _upsert(engine: Engine, rows: list[dict[str, Any]]) -> Any:
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    added = dialect.insert(usage).values(rows)
    grown = {name: usage.c[name] + added.excluded[name] for name in COUNTS}
    return added.on_conflict_do_update(index_elements=["key_id", "model", "day"], set_=grown)


def _date(day: int) -> str:
    return datetime.datetime.fromtimestamp(day * DAY_SECONDS, datetime.UTC).date().isoformat()


def read(settings: Settings, query: UsageQuery) -> list[dict[str, Any]]:
    """What is stored, the newest day first, with the key's name and owner where the key is there."""
    if not database.exists(settings):
        return []
    found = (
        select(usage, keys.c.name, keys.c.owner)
        .outerjoin(keys, keys.c.id == usage.c.key_id)
        .order_by(usage.c.day.desc(), usage.c.key_id, usage.c.model)
    )
    if query.key is not None:
        found = found.where(usage.c.key_id == query.key)
    if query.model is not None:
        found = found.where(usage.c.model == query.model)
    if query.since is not None:
        found = found.where(usage.c.day >= query.since.isoformat())
    if query.until is not None:
        found = found.where(usage.c.day <= query.until.isoformat())
    with database.reading(database.ready(settings)) as connection:
        return [_usage_object(row) for row in connection.execute(found).mappings()]


def _usage_object(row: Any) -> dict[str, Any]:
    return {
        "object": "corral.usage",
        "day": row["day"],
        "key": row["key_id"],
        "name": row["name"],
        "owner": row["owner"],
        "model": row["model"],
        **{name: row[name] for name in COUNTS},
    }


def spent(settings: Settings, key_ids: list[str]) -> dict[str, int]:
    """The tokens stored as used with each of these keys."""
    tokens = func.sum(usage.c.prompt_tokens + usage.c.generated_tokens)
    found = select(usage.c.key_id, tokens).where(usage.c.key_id.in_(key_ids))
    with database.reading(database.ready(settings)) as connection:
        return {id: int(sum) for id, sum in connection.execute(found.group_by(usage.c.key_id))}
