"""The routes that llama-server answers: one handler for all that `passed` lists."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from corral.asking import caller
from corral.caller import Caller
from corral.errors import BadRequest
from corral.gateway import body as bodies
from corral.gateway import grammars, media, slots, tiers
from corral.gateway.admission import Seat
from corral.gateway.compat import reconcile
from corral.gateway.context import RequestContext
from corral.gateway.deps import Gateway, InGateway
from corral.gateway.passed import PASSED, Passed, description
from corral.gateway.proxy import Exchange, Relay
from corral.gateway.responses_shape import ResponsesShape
from corral.gateway.structured import Form, form_of
from corral.registry.catalog import Catalog, Model
from corral.runtime.presets import Placement
from corral.settings import Settings


def build_router() -> APIRouter:
    """A router with every path of `PASSED`."""
    router = APIRouter(tags=["inference"])
    for passed in PASSED:
        for path in passed.paths:
            router.add_api_route(
                path,
                _handler(passed),
                methods=["POST"],
                summary=passed.summary,
                operation_id=path.strip("/").replace("/", "_").replace("-", "_"),
                openapi_extra=description(passed),
                include_in_schema=path == passed.paths[0],
            )
    return router


def _handler(passed: Passed) -> Callable[[Request, InGateway], Awaitable[Response]]:
    async def handle(request: Request, gateway: InGateway) -> Response:
        return await relay(passed, gateway, request.scope, await request.body())

    return handle


async def relay(passed: Passed, gateway: Gateway, scope: Scope, raw: bytes) -> Relay:
    """The answer to a request with the body `raw`. It holds its section: call it."""
    body, who = bodies.parse(raw), caller(scope)
    default = gateway.settings.default_model if passed.model_optional else None
    asked = bodies.asked_model(body, default)
    serving, model = await gateway.runtime.take(
        asked, with_tools=bool(body.get("tools")), seen=gateway.views.eyes(who)
    )
    # No await from here on: the relay holds the section that `serving` names.
    RequestContext.of(scope).model = model.name
    _check_kind(passed, model, asked, gateway.views.seen(serving.catalog, who))
    as_sent = dict(body)
    form = _accept(passed, body, gateway.settings, who)
    if passed.generates:
        bodies.with_defaults(body, serving.defaults(model))
    rank = tiers.rank(who.priority, as_sent)
    as_sent["service_tier"] = tier = tiers.told(rank, as_sent)
    placement = serving.placement(model)
    sent = bodies.for_upstream(body, placement)
    head = _head(passed, placement, body, sent)
    seat = Seat(placement.section, placement.slots, model.name, who.id, rank, head)
    exchange = Exchange(
        path=passed.upstream,
        body=sent,
        section=placement.section,
        asked=asked,
        dialect=passed.dialect,
        prompt=passed.prompt,
        seat=seat if passed.takes_a_slot else None,
        stream=body.get("stream") is True,
        shape=_shape(passed, as_sent, body, asked),
        form=form,
        retries=gateway.settings.structured_retries if form else 0,
        tier=tier if passed.upstream == "/v1/chat/completions" else None,
    )
    return Relay(gateway.runtime, gateway.admission, gateway.stopping, exchange)


def _accept(passed: Passed, body: dict[str, Any], settings: Settings, who: Caller) -> Form | None:
    """Make `body` what llama-server takes, or refuse it; the form that its answer must have. A prompt
    and a count have none: what cannot be followed is refused there all the same."""
    reconcile(body)
    media.check(body, settings.media_hosts)
    if not passed.gives_form:
        return None
    lets = grammars.lets(settings.client_grammars, who)
    form = form_of(body, passed.dialect, chat=passed.chats, grammar_allowed=lets)
    return form if passed.generates else None


def _head(passed: Passed, placement: Placement, body: dict[str, Any], sent: bytes) -> bytes:
    """How the prompt begins, where the slot is to be chosen here."""
    chosen = "id_slot" in body or body.get("n", 1) != 1
    if not passed.generates or not placement.lora or chosen:
        return b""
    return slots.head(sent, passed.prompt)


def _shape(
    passed: Passed, as_sent: dict[str, Any], body: dict[str, Any], asked: str
) -> ResponsesShape | None:
    if passed.dialect != "responses":
        return None
    return ResponsesShape(as_sent, asked, int(time.time()), bodies.length_limit(body))


def _check_kind(passed: Passed, model: Model, asked: str, catalog: Catalog) -> None:
    """A model is loaded either to embed or to write; the other would fail, or answer nonsense."""
    is_embedding = model.kind == "embedding"
    if not (passed.embeds or passed.generates) or passed.embeds == is_embedding:
        return
    others = [m.name for m in catalog.models.values() if (m.kind == "embedding") == passed.embeds]
    known = ", ".join(f"`{name}`" for name in others) or "none here"
    wanted = "makes no embeddings" if passed.embeds else "only makes embeddings"
    raise BadRequest(
        f"the model `{asked}` {wanted}; models that serve this route: {known}", param="model"
    )
