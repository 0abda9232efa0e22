"""GET /v1/models and /v1/models/{name}."""

from typing import Any, Literal

from fastapi import APIRouter
from starlette.responses import Response

from corral.asking import Asking
from corral.gateway.deps import InGateway
from corral.gateway.responses import JSONAnswer
from corral.openapi import Shown
from corral.registry.catalog import Catalog, Model

router = APIRouter(tags=["models"])


class Known(Shown):
    """What Corral knows of a model; the last two only where there is something to say."""

    kind: str
    context_length: int | None
    base: str = ""
    alias_of: str = ""


class ShownModel(Shown):
    """A name that may be sent as `model`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    corral: Known


class ModelList(Shown):
    """Every one."""

    object: Literal["list"]
    data: list[ShownModel]


@router.get("/v1/models", response_model=ModelList)
@router.get("/models", include_in_schema=False)
async def list_models(gateway: InGateway, asking: Asking) -> Response:
    """Every name that may be sent as `model` with this key, aliases included."""
    catalog = gateway.seen_by(asking)
    entries = [_entry(name, catalog.find(name), catalog) for name in catalog.names()]
    return JSONAnswer({"object": "list", "data": entries})


@router.get("/v1/models/{name:path}", response_model=ShownModel)
@router.get("/models/{name:path}", include_in_schema=False)
async def retrieve_model(name: str, gateway: InGateway, asking: Asking) -> Response:
    """One model by name, alias, or either with `openai/` before it."""
    catalog, model = await gateway.runtime.find(name, seen=gateway.views.eyes(asking))
    return JSONAnswer(_entry(name, model, catalog))


def _entry(name: str, model: Model, catalog: Catalog) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "corral",
    }
    corral: dict[str, Any] = {"kind": model.kind, "context_length": model.context_length}
    if model.base:
        corral["base"] = model.base
    if name != model.name:
        corral["alias_of"] = model.name
    entry["corral"] = corral
    return entry
