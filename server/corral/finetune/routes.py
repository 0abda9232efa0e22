"""/v1/fine_tuning/jobs, and DELETE of a fine-tuned model. Thin: the service does the work."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from corral.asking import Asking
from corral.caller import Caller
from corral.errors import BadRequest
from corral.finetune.objects import (
    DeletedModel,
    ShownCheckpoint,
    ShownFineTuningJob,
    ShownJobEvent,
)
from corral.finetune.schemas import CreateJob
from corral.finetune.service import LIMIT, LIMIT_MAX, FineTuning
from corral.openapi import PARTS, Page
from corral.settings import Settings

METADATA = re.compile(r"metadata\[(.*)\]\Z", re.S)
# The shape of the body, for /docs; it is read by hand, so that every error names its field.
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": CreateJob.model_json_schema(ref_template=PARTS)}
        },
    }
}
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]
# Described only: the service says better what is wrong.
EventId = Annotated[str | None, Query(json_schema_extra={"pattern": "^ftevent-[0-9]{1,18}$"})]


class FineTuningRoutes:
    """The endpoints over the jobs of one data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def router(self) -> APIRouter:
        """The router to include in the application."""
        made = APIRouter(tags=["fine-tuning"])
        jobs, one = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{job_id}"
        add, job = made.add_api_route, ShownFineTuningJob
        add(jobs, self.create, methods=["POST"], openapi_extra=BODY, response_model=job)
        for method, path, route, answer in (
            ("GET", jobs, self.list_jobs, Page[ShownFineTuningJob]),
            ("GET", one, self.retrieve, job),
            ("POST", f"{one}/cancel", self.cancel, job),
            ("POST", f"{one}/pause", self.pause, job),
            ("POST", f"{one}/resume", self.resume, job),
            ("GET", f"{one}/events", self.events, Page[ShownJobEvent]),
            ("GET", f"{one}/checkpoints", self.checkpoints, Page[ShownCheckpoint]),
            ("DELETE", "/v1/models/{name:path}", self.delete_model, DeletedModel),
        ):
            add(path, route, methods=[method], response_model=answer)
        return made

    async def create(self, request: Request, asking: Asking) -> Response:
        """Start a fine-tuning job."""
        body = parse(await request.body())
        return await self._ask(asking, lambda jobs: jobs.create(body))

    async def list_jobs(
        self,
        request: Request,
        asking: Asking,
        limit: Limit = LIMIT,
        after: str | None = None,
    ) -> Response:
        """Jobs, the newest first; `metadata[KEY]=VALUE` chooses, `metadata=null` those without any."""
        metadata = metadata_of(request)
        return await self._ask(asking, lambda jobs: jobs.list(limit, after, metadata))

    async def retrieve(self, job_id: str, asking: Asking) -> Response:
        """One job."""
        return await self._ask(asking, lambda jobs: jobs.get(job_id))

    async def cancel(self, job_id: str, asking: Asking) -> Response:
        """Cancel a job; asking twice is no error."""
        return await self._ask(asking, lambda jobs: jobs.cancel(job_id))

    async def pause(self, job_id: str, asking: Asking) -> Response:
        """Stop a job with a checkpoint; asking twice is no error."""
        return await self._ask(asking, lambda jobs: jobs.pause(job_id))

    async def resume(self, job_id: str, asking: Asking) -> Response:
        """Let a paused job go on; asking twice is no error."""
        return await self._ask(asking, lambda jobs: jobs.resume(job_id))

    async def events(
        self, job_id: str, asking: Asking, limit: Limit = LIMIT, after: EventId = None
    ) -> Response:
        """A job's events, the newest first."""
        return await self._ask(asking, lambda jobs: jobs.events(job_id, limit, after))

    async def checkpoints(
        self, job_id: str, asking: Asking, limit: Limit = 10, after: str | None = None
    ) -> Response:
        """A job's checkpoints, the newest first."""
        return await self._ask(asking, lambda jobs: jobs.checkpoints(job_id, limit, after))

    async def delete_model(self, name: str, asking: Asking) -> Response:
        """Delete a fine-tuned model."""
        return await self._ask(asking, lambda jobs: jobs.delete_model(name))

    async def _ask(
        self, asking: Caller, question: Callable[[FineTuning], dict[str, Any]]
    ) -> Response:
        """Ask the service, in a thread: it blocks."""

        def ask() -> Response:
            answer = question(FineTuning.of(self._settings, asking))
            text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            return Response(text, media_type="application/json")

        return await asyncio.to_thread(ask)


def parse(raw: bytes) -> Any:
    """The JSON in a body; BadRequest when it is none."""
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BadRequest(
            f"the body is not valid JSON: {said}", param="body", code="invalid_json"
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(
        f"the body is not valid JSON: {name} is no JSON number", param="body", code="invalid_json"
    )


def metadata_of(request: Request) -> dict[str, str] | None:
    """The pairs of `metadata[KEY]=VALUE` in a query; empty for `metadata=null`; None without any."""
    found = {
        match[1]: value
        for name, value in request.query_params.multi_items()
        if (match := METADATA.match(name))
    }
    if found:
        return found
    return {} if request.query_params.get("metadata") == "null" else None
