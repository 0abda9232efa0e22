"""/health (alive), /ready (can serve) and /metrics."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from corral.asking import Asking
from corral.errors import NotReady
from corral.gateway.deps import InGateway
from corral.gateway.responses import JSONAnswer
from corral.metrics import CONTENT_TYPE
from corral.openapi import Shown

router = APIRouter(tags=["operations"])


class Alive(Shown):
    """/health."""

    status: Literal["ok"]


class Problem(Shown):
    """A file that cannot be served."""

    name: str
    message: str


class Ready(Shown):
    """/ready."""

    status: Literal["ready"]
    sections: dict[str, str]
    problems: list[Problem]


TEXT = {"text/plain": {"schema": {"type": "string"}}}


@router.get("/health", response_model=Alive)
async def health() -> Response:
    """Alive: the process answers. Says nothing about models; see /ready."""
    return JSONAnswer({"status": "ok"})


@router.get("/ready", response_model=Ready)
async def ready(gateway: InGateway, asking: Asking) -> Response:
    """Can serve: llama-server runs and the preloaded models are up. Else 503 with the reason. What
    cannot be served is told to administrators only: it names files, and other people's models."""
    state = await gateway.runtime.readiness()
    if not state.ready:
        raise NotReady(state.reason, headers={"Retry-After": "1"})
    problems = [
        {"name": problem.name, "message": problem.message}
        for problem in gateway.seen_by(asking).problems
    ]
    return JSONAnswer({"status": "ready", "sections": state.sections, "problems": problems})


@router.get("/metrics", response_class=PlainTextResponse, responses={200: {"content": TEXT}})
async def metrics(gateway: InGateway) -> Response:
    """Counters and gauges in Prometheus' text format (docs/operations.md lists them)."""
    now = await gateway.gauges.now()
    gateway.accounting.settle()
    return Response(gateway.metrics.render(now), media_type=CONTENT_TYPE)
