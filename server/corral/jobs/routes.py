"""/corral/v1/jobs: submit, list, show, cancel, follow. Thin: the queue does the work."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query
from pydantic import WithJsonSchema
from sqlalchemy import RowMapping
from starlette.responses import Response, StreamingResponse

from corral import database
from corral.asking import Asking
from corral.errors import BadRequest, CorralError, NotReady
from corral.jobs.kinds import Kinds
from corral.jobs.queue import ENDED, Queue, Status
from corral.jobs.schemas import (
    JobRequest,
    ShownEvent,
    ShownJob,
    event_number,
    event_object,
    job_object,
)
from corral.openapi import EVENTS, Page
from corral.pages import page
from corral.settings import Settings

SPEC_MAX_BYTES = 1024 * 1024
POLL_SECONDS = 0.5
# A comment in a quiet stream, so that nothing between takes the connection for dead.
KEEP_ALIVE_SECONDS = 15.0
STREAM_BATCH = 200

Answer = TypeVar("Answer")
Limit = Annotated[int, Query(ge=1, le=100)]
# Described only: `_number` says better what is wrong.
EVENT_ID = {"pattern": "^jobevent_[0-9]{1,18}$"}
EventId = Annotated[str | None, Query(json_schema_extra=EVENT_ID)]
LastEventId = Annotated[str | None, Header(), WithJsonSchema({"type": "string"})]


class JobRoutes:
    """The endpoints over one queue. `stopping` ends their streams."""

    def __init__(self, settings: Settings, kinds: Kinds, stopping: asyncio.Event) -> None:
        self._settings, self._kinds, self._stopping = settings, kinds, stopping

    def router(self) -> APIRouter:
        """The router to include in the application."""
        made = APIRouter(prefix="/corral/v1/jobs", tags=["jobs"])
        for method, path, route, answer in (
            ("POST", "", self.submit, ShownJob),
            ("GET", "", self.list_jobs, Page[ShownJob]),
            ("GET", "/{job_id}", self.retrieve, ShownJob),
            ("POST", "/{job_id}/cancel", self.cancel, ShownJob),
        ):
            made.add_api_route(path, route, methods=[method], response_model=answer)
        made.add_api_route(
            "/{job_id}/events",
            self.events,
            methods=["GET"],
            response_model=Page[ShownEvent],
            responses={200: {"content": EVENTS}},
        )
        return made

    async def submit(self, request: JobRequest, asking: Asking) -> Response:
        """Put a job at the end of the line."""
        spec = self._kinds.find(request.kind).parse(request.spec)
        text = spec.model_dump_json()
        if len(text) > SPEC_MAX_BYTES:
            raise BadRequest(f"`spec` is over {SPEC_MAX_BYTES} bytes; name a file", param="spec")
        row = await self._ask(
            lambda queue: queue.submit(request.kind, json.loads(text), owner=asking.owner)
        )
        return _answer(job_object(row))

    async def list_jobs(
        self,
        asking: Asking,
        limit: Limit = 20,
        after: str | None = None,
        status: Status | None = None,
        kind: str | None = None,
    ) -> Response:
        """Jobs, the newest first."""
        whose = asking.only
        rows, more = await self._ask(lambda queue: queue.list(limit, after, status, kind, whose))
        return _answer(page([job_object(row) for row in rows], more))

    async def retrieve(self, job_id: str, asking: Asking) -> Response:
        """One job."""
        return _answer(job_object(await self._ask(lambda queue: queue.get(job_id, asking.only))))

    async def cancel(self, job_id: str, asking: Asking) -> Response:
        """Cancel a job. One that runs has ended a few seconds later; asking twice is no error."""
        await self._ask(lambda queue: queue.get(job_id, asking.only))
        return _answer(job_object(await self._ask(lambda queue: queue.cancel(job_id))))

    async def events(
        self,
        job_id: str,
        asking: Asking,
        limit: Limit = 20,
        after: EventId = None,
        stream: bool = False,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Events, the newest first. With `stream=true` as server-sent events instead, from the
        oldest (or from behind `after`, or Last-Event-ID) on, with the job as it changes, until it
        has ended."""
        number = _number(after)
        # One of another stream, which browsers may send, counts for none.
        seen = event_number(last_event_id or "")
        await self._ask(lambda queue: queue.get(job_id, asking.only))
        if stream:
            return StreamingResponse(
                self._stream(job_id, number or seen or 0),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            )
        rows, more = await self._ask(lambda queue: queue.events(job_id, limit, before=number))
        return _answer(page([event_object(row) for row in rows], more))

    async def _stream(self, job_id: str, since: int) -> AsyncIterator[str]:
        try:
            async for text in self._follow(job_id, since):
                yield text
        except CorralError as error:
            yield f"data: {json.dumps(error.body())}\n\n"

    async def _follow(self, job_id: str, since: int) -> AsyncIterator[str]:
        seen, quiet = -1.0, 0.0
        while True:
            # The job first: whatever it says has its event already.
            job = await self._ask(lambda queue: queue.get(job_id))
            rows, more = await self._events_since(job_id, since)
            for row in rows:
                since = row["number"]
                event = event_object(row)
                yield f"id: {event['id']}\ndata: {_compact(event)}\n\n"
            if more:
                continue
            if job["updated"] != seen:
                seen, quiet = job["updated"], 0.0
                yield f"data: {_compact(job_object(job))}\n\n"
            elif quiet >= KEEP_ALIVE_SECONDS:
                quiet = 0.0
                yield ": still there\n\n"
            if job["status"] in ENDED:
                yield "data: [DONE]\n\n"
                return
            await self._pause()
            quiet += POLL_SECONDS

    async def _events_since(self, job_id: str, since: int) -> tuple[list[RowMapping], bool]:
        return await self._ask(lambda queue: queue.events(job_id, STREAM_BATCH, since=since))

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), POLL_SECONDS)
        except TimeoutError:
            return
        raise NotReady("Corral is stopping; the job goes on when it runs again")

    async def _ask(self, question: Callable[[Queue], Answer]) -> Answer:
        """Ask the queue, in a thread: it blocks."""

        def ask() -> Answer:
            return question(Queue(database.ready(self._settings)))

        return await asyncio.to_thread(ask)


def _number(event_id: str | None) -> int | None:
    if event_id is None:
        return None
    number = event_number(event_id)
    if number is None:
        raise BadRequest(
            f"`{event_id}` is no event's id; it looks like `jobevent_12`", param="after"
        )
    return number


def _answer(content: dict[str, Any]) -> Response:
    return Response(_compact(content), media_type="application/json")


def _compact(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
