"""How many jobs wait and run, for the metrics."""

from sqlalchemy import func, select

from corral import database
from corral.database import reading
from corral.jobs.queue import ENDED
from corral.jobs.tables import jobs
from corral.settings import Settings


def unfinished(settings: Settings) -> dict[tuple[str, str], int]:
    """Jobs that have not ended, by kind and status; reads an index's few rows. Makes no database."""
    if not database.exists(settings):
        return {}
    open_jobs = (
        select(jobs.c.kind, jobs.c.status, func.count())
        .where(jobs.c.status.not_in(ENDED))
        .group_by(jobs.c.kind, jobs.c.status)
    )
    with reading(database.ready(settings)) as connection:
        return {(kind, status): count for kind, status, count in connection.execute(open_jobs)}
