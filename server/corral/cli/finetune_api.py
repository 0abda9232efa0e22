"""Fine-tuning jobs of a running Corral, over OpenAI's routes, or of the local data directory: the same
questions, answered with OpenAI's objects."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from corral import settings as settings_module
from corral.cli import files_api
from corral.cli.files_api import LocalFiles, RemoteFiles
from corral.cli.remote import Remote
from corral.errors import UpstreamError
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.finetune.service import FineTuning

PATH = "/v1/fine_tuning/jobs"
ENDED = ("succeeded", "failed", "cancelled")
PAGE = 100
LOCAL_SECONDS, REMOTE_SECONDS = 0.5, 1.0
# How long a Corral that has gone away may take to come back while a job of it is followed.
RECONNECT_SECONDS = 60.0

Verb = Literal["cancel", "pause", "resume"]
Json = dict[str, Any]


class Jobs(Protocol):
    """What `corral finetune` asks."""

    files: files_api.Files
    # Between two questions while a job is followed.
    pause: float

    def create(self, request: Json) -> Json:
        """Start a job; the job."""

    def list(self, limit: int) -> list[Json]:
        """The newest jobs."""

    def get(self, job_id: str) -> Json:
        """One job."""

    def act(self, job_id: str, verb: Verb) -> Json:
        """Cancel, pause or resume it; the job after that."""

    def events(self, job_id: str, after: str | None) -> Json:
        """A page of its events, the newest first, from behind the event `after`."""

    def working(self) -> AbstractContextManager[None]:
        """Held while somebody waits for a job here: makes sure that a worker runs."""


def connect(url: str, data_dir: Path | None, config: Path | None) -> Jobs:
    """The jobs of the Corral at `url`, else those of the local data directory."""
    settings = settings_module.load({"data_dir": data_dir}, config)
    return RemoteJobs(url, settings) if url else LocalJobs(settings)


class LocalJobs:
    """Reads and writes the database itself; needs no running Corral."""

    pause = LOCAL_SECONDS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.files: files_api.Files = LocalFiles(settings)

    def create(self, request: Json) -> Json:
        """Start a job."""
        return self._service().create(request)

    def list(self, limit: int) -> list[Json]:
        """The newest jobs."""
        data: list[Json] = self._service().list(limit)["data"]
        return data

    def get(self, job_id: str) -> Json:
        """One job."""
        return self._service().get(job_id)

    def act(self, job_id: str, verb: Verb) -> Json:
        """Cancel, pause or resume it."""
        service = self._service()
        return {"cancel": service.cancel, "pause": service.pause, "resume": service.resume}[verb](
            job_id
        )

    def events(self, job_id: str, after: str | None) -> Json:
        """A page of its events."""
        return self._service().events(job_id, PAGE, after)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker of our own; where `corral serve` runs one as well, either takes the job."""
        from corral.jobs.child import WorkerChildren

        workers = WorkerChildren(self._settings, 1)
        workers.start()
        try:
            yield
        finally:
            workers.stop()

    def _service(self) -> "FineTuning":
        from corral.finetune.service import FineTuning

        return FineTuning.of(self._settings)


class RemoteJobs:
    """Asks a running Corral."""

    pause = REMOTE_SECONDS

    def __init__(self, url: str, settings: Settings) -> None:
        self._remote = Remote(url, settings)
        self.files: files_api.Files = RemoteFiles(url, settings)

    def create(self, request: Json) -> Json:
        """Start a job."""
        return self._remote.ask("POST", PATH, request)

    def list(self, limit: int) -> list[Json]:
        """The newest jobs."""
        data: list[Json] = self._remote.ask("GET", f"{PATH}?limit={limit}")["data"]
        return data

    def get(self, job_id: str) -> Json:
        """One job."""
        return self._remote.ask("GET", f"{PATH}/{job_id}")

    def act(self, job_id: str, verb: Verb) -> Json:
        """Cancel, pause or resume it."""
        return self._remote.ask("POST", f"{PATH}/{job_id}/{verb}")

    def events(self, job_id: str, after: str | None) -> Json:
        """A page of its events."""
        query = f"?limit={PAGE}" + (f"&after={after}" if after else "")
        return self._remote.ask("GET", f"{PATH}/{job_id}/events{query}")

    def working(self) -> AbstractContextManager[None]:
        """Its own workers do."""
        return nullcontext()


def follow(jobs: Jobs, job_id: str, *, wait: bool) -> Iterator[Json]:
    """The events of a job, the oldest first, and the job itself whenever it has changed; with `wait`
    until it has ended. A running Corral that is started again meanwhile is waited for."""
    last: str | None = None
    shown: Json | None = None
    gone = 0.0
    while True:
        try:
            # The job first: whatever it says has its event already.
            job = jobs.get(job_id)
            events = _events_since(jobs, job_id, last)
        except UpstreamError:
            gone = gone or time.monotonic()
            if not wait or shown is None or time.monotonic() - gone > RECONNECT_SECONDS:
                raise
            time.sleep(jobs.pause)
            continue
        gone = 0.0
        for event in events:
            last = event["id"]
            yield event
        if job != shown:
            shown = job
            yield job
        if not wait or job["status"] in ENDED:
            return
        time.sleep(jobs.pause)


def _events_since(jobs: Jobs, job_id: str, last: str | None) -> list[Json]:
    """Events newer than `last`, the oldest first."""
    found: list[Json] = []
    after: str | None = None
    while True:
        page = jobs.events(job_id, after)
        for event in page["data"]:
            if event["id"] == last:
                return found[::-1]
            found.append(event)
        if not page["has_more"]:
            return found[::-1]
        after = page["last_id"]
