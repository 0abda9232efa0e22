"""The routes that llama-server answers: one table, one handler."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Scope

from corral.asking import caller
from corral.errors import BadRequest
from corral.gateway import body as bodies
from corral.gateway import grammars, media, slots, tiers
from corral.gateway.admission import Seat
from corral.gateway.compat import fields, reconcile
from corral.gateway.context import RequestContext
from corral.gateway.deps import Gateway, InGateway
from corral.gateway.proxy import Exchange, Relay
from corral.gateway.responses_shape import ResponsesShape
from corral.gateway.sse import Dialect
from corral.gateway.structured import form_of
from corral.openapi import EVENTS
from corral.registry.catalog import Catalog, Model


@dataclass(frozen=True)
class Passed:
    """One thing that llama-server does: its path there, the paths here, how it streams, the field
    that holds the text, and the kind of model that it takes."""

    upstream: str
    paths: tuple[str, ...]
    summary: str
    dialect: Dialect = "native"
    prompt: str = "messages"
    generates: bool = False
    embeds: bool = False
    model_optional: bool = False

    @property
    def takes_a_slot(self) -> bool:
        """Whether llama-server works on it in a slot; tokenising and its like need none."""
        return self.generates or self.embeds or self.upstream == "/v1/rerank"

    @property
    def gives_form(self) -> bool:
        """Whether llama-server reads schemas there, if only to render a prompt."""
        return self.generates or self.chats

    @property
    def chats(self) -> bool:
        """Whether it takes messages and tools."""
        return self.upstream in CHATS


PASSED = (
    Passed(
        "/v1/chat/completions",
        ("/v1/chat/completions", "/chat/completions"),
        "Chat, OpenAI's shape",
        "openai",
        generates=True,
    ),
    Passed(
        "/v1/completions",
        ("/v1/completions", "/completions"),
        "Text completion, OpenAI's shape",
        "openai",
        prompt="prompt",
        generates=True,
    ),
    Passed(
        "/v1/responses",
        ("/v1/responses", "/responses"),
        "Responses, OpenAI's shape",
        "responses",
        prompt="input",
        generates=True,
    ),
    Passed(
        "/v1/messages",
        ("/v1/messages", "/messages"),
        "Messages, Anthropic's shape",
        "anthropic",
        generates=True,
    ),
    Passed(
        "/v1/messages/count_tokens",
        ("/v1/messages/count_tokens", "/messages/count_tokens"),
        "Count the tokens of messages, Anthropic's shape",
    ),
    Passed(
        "/v1/embeddings",
        ("/v1/embeddings", "/embeddings"),
        "Embeddings, OpenAI's shape",
        prompt="input",
        embeds=True,
    ),
    Passed("/v1/rerank", ("/v1/rerank", "/rerank"), "Rank documents by relevance to a query"),
    Passed("/tokenize", ("/tokenize",), "Text to token ids", model_optional=True),
    Passed("/detokenize", ("/detokenize",), "Token ids to text", model_optional=True),
    Passed(
        "/apply-template", ("/apply-template",), "Messages to the prompt text", model_optional=True
    ),
    Passed(
        "/infill",
        ("/infill",),
        "Fill in the middle of a text",
        prompt="input_prefix",
        generates=True,
        model_optional=True,
    ),
)

# What takes messages and tools, if only to render or to count them.
CHATS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/apply-template",
)

ANSWER = {"application/json": {"schema": {"type": "object"}}}
# Of fields that Corral reads too, what it does with them. Without a type: whatever else stands there is
# llama-server's affair, or as if it were not there.
LORA = {"lora": "passed over: the model's name chooses the adapter"}
RANK = {
    "service_tier": "lowers the rank to wait in: `default`, `flex`; all else leaves it to the key"
}
LENGTHS = dict.fromkeys(
    bodies.LENGTH_KEYS, "takes the place of the model's own default of any such name"
)
SLOT = {
    "id_slot": "llama-server's slot; without it Corral chooses where a base has adapters",
    "n": "how many answers; above 1 llama-server chooses the slots",
}
FORM = {
    "json_schema": "what the answer must be, where no `response_format` says it",
    "grammar_triggers": "only for keys that may send a `grammar`",
}


def description(passed: Passed) -> dict[str, Any]:
    """The body and the answer, for the API's own description: what Corral itself holds to. All else
    is llama-server's affair."""
    schema = {
        "type": "object",
        "properties": _properties(passed),
        "required": [] if passed.model_optional else ["model"],
        "additionalProperties": True,
    }
    answers = ANSWER | (EVENTS if passed.generates else {})
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "llama-server's answer", "content": answers}},
    }


def _properties(passed: Passed) -> dict[str, Any]:
    name = {"type": ["string", "null"] if passed.model_optional else "string", "pattern": r"\S"}
    found = {"model": name | {"description": "a name of GET /v1/models"}, **fields()}
    if passed.gives_form:
        told = "in llama.cpp's language; not for every key (setting `client_grammars`)"
        found["grammar"] = {"type": ["string", "null"], "description": told}
    told_of = LORA | (RANK if passed.takes_a_slot else {}) | (FORM if passed.gives_form else {})
    if passed.generates:
        told_of |= LENGTHS | SLOT
    return found | {key: {"description": text} for key, text in told_of.items()}


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
    body = bodies.parse(raw)
    default = gateway.settings.default_model if passed.model_optional else None
    asked = bodies.asked_model(body, default)
    with_tools = bool(body.get("tools"))
    who = caller(scope)
    serving, model = await gateway.runtime.take(
        asked, with_tools=with_tools, seen=gateway.views.eyes(who)
    )
    # No await from here on: the relay holds the section that `serving` names.
    RequestContext.of(scope).model = model.name
    _check_kind(passed, model, asked, gateway.views.seen(serving.catalog, who))
    as_sent = dict(body)
    reconcile(body)
    media.check(body, gateway.settings.media_hosts)
    form = None
    if passed.gives_form:
        lets = grammars.lets(gateway.settings.client_grammars, who)
        form = form_of(body, passed.dialect, chat=passed.chats, grammar_allowed=lets)
    if not passed.generates:
        form = None  # refused where it cannot be; a prompt and a count have no form
    if passed.generates:
        bodies.with_defaults(body, serving.defaults(model))
    rank = tiers.rank(who.priority, as_sent)
    as_sent["service_tier"] = tier = tiers.told(rank, as_sent)
    shape = None
    if passed.dialect == "responses":
        limit = bodies.length_limit(body)
        shape = ResponsesShape(as_sent, asked, int(time.time()), limit)
    placement = serving.placement(model)
    sent = bodies.for_upstream(body, placement)
    head = b""
    if passed.generates and placement.lora and "id_slot" not in body and body.get("n", 1) == 1:
        head = slots.head(sent, passed.prompt)
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
        shape=shape,
        form=form,
        retries=gateway.settings.structured_retries if form else 0,
        tier=tier if passed.upstream == "/v1/chat/completions" else None,
    )
    return Relay(gateway.runtime, gateway.admission, gateway.stopping, exchange)


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
