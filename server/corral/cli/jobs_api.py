"""Jobs of a running Corral, over HTTP, or of the local data directory: the same four questions."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from corral import settings as settings_module
from corral.cli.remote import Remote
from corral.errors import UpstreamError
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.jobs.queue import Queue

PATH = "/corral/v1/jobs"
ENDED = ("succeeded", "failed", "cancelled")
POLL_SECONDS = 0.5
# How long a Corral that has gone away may take to come back while a job of it is followed.
RECONNECT_SECONDS = 60.0

Json = dict[str, Any]


class Jobs(Protocol):
    """What `corral jobs` asks."""

    def list(self, limit: int, status: str | None) -> list[Json]:
        """The newest jobs."""

    def show(self, job_id: str) -> Json:
        """One job."""

    def cancel(self, job_id: str) -> Json:
        """Cancel it; the job after that."""

    def follow(self, job_id: str, *, wait: bool) -> Iterator[Json]:
        """Its events and the job itself as they come, oldest first; with `wait`, until it has ended."""


def connect(url: str | None, data_dir: Path | None, config: Path | None) -> Jobs:
    """The jobs of the Corral at `url`, else those of the local data directory."""
    settings = settings_module.load({"data_dir": data_dir}, config)
    return RemoteJobs(url, settings) if url else LocalJobs(settings)


class LocalJobs:
    """Reads the database itself; needs no running Corral."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list(self, limit: int, status: str | None) -> list[Json]:
        """The newest jobs."""
        from corral.jobs.schemas import job_object

        rows, _ = self._queue().list(limit, status=status)  # type: ignore[arg-type]
        return [job_object(row) for row in rows]

    def show(self, job_id: str) -> Json:
        """One job."""
        from corral.jobs.schemas import job_object

        return job_object(self._queue().get(job_id))

    def cancel(self, job_id: str) -> Json:
        """Cancel it."""
        from corral.jobs.schemas import job_object

        return job_object(self._queue().cancel(job_id))

    def follow(self, job_id: str, *, wait: bool) -> Iterator[Json]:
        """Events and the job."""
        from corral.jobs.schemas import event_object

        since = 0
        while True:
            job = self.show(job_id)
            rows, more = self._queue().events(job_id, 500, since=since)
            for row in rows:
                since = row["number"]
                yield event_object(row)
            if more:
                continue
            yield job
            if not wait or job["status"] in ENDED:
                return
            time.sleep(POLL_SECONDS)

    def _queue(self) -> "Queue":
        from corral import database
        from corral.jobs.queue import Queue

        return Queue(database.ready(self._settings))


class RemoteJobs:
    """Asks a running Corral."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._remote = Remote(url, settings)

    def submit(self, kind: str, spec: Json) -> Json:
        """Put a job into the queue."""
        return self._remote.ask("POST", PATH, {"kind": kind, "spec": spec})

    def list(self, limit: int, status: str | None) -> list[Json]:
        """The newest jobs."""
        query = f"?limit={limit}" + (f"&status={status}" if status else "")
        data: list[Json] = self._remote.ask("GET", PATH + query)["data"]
        return data

    def show(self, job_id: str) -> Json:
        """One job."""
        return self._remote.ask("GET", f"{PATH}/{job_id}")

    def cancel(self, job_id: str) -> Json:
        """Cancel it."""
        return self._remote.ask("POST", f"{PATH}/{job_id}/cancel")

    def follow(self, job_id: str, *, wait: bool) -> Iterator[Json]:
        """Events and the job. A Corral that is started again meanwhile is waited for."""
        last, gone = "", 0.0
        while True:
            try:
                for item in self._stream(job_id, last):
                    gone = 0.0
                    if item["object"] == "corral.job.event":
                        last = item["id"]
                    yield item
                    if item["object"] == "corral.job" and (not wait or item["status"] in ENDED):
                        return
            except UpstreamError:
                gone = gone or time.monotonic()
                if not wait or time.monotonic() - gone > RECONNECT_SECONDS:
                    raise
            time.sleep(POLL_SECONDS)

    def _stream(self, job_id: str, last: str) -> Iterator[Json]:
        path = f"{PATH}/{job_id}/events?stream=true" + (f"&after={last}" if last else "")
        with self._remote.told(), self._remote.open("GET", path) as answer:
            for line in answer:
                text = line.decode().strip()
                if text.startswith("data: {"):
                    item: Json = json.loads(text.removeprefix("data: "))
                    if "object" not in item:
                        raise UpstreamError(item["error"]["message"])
                    yield item
