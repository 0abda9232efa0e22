"""Compare models on held-out rows: models here, each in a private llama-server, or names that a running
Corral serves. Registers nothing."""

from pathlib import Path

from pydantic import Field

from corral.errors import BadRequest, PermissionDenied
from corral.jobs import kinds
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.catalog import Catalog, Model
from corral.registry.scan import scan
from corral.settings import Settings
from corral.shelf.quantize import check_files, flags


class Spec(kinds.Spec):
    """`against` is compared with `model`; empty: the base of an adapter, else nothing. With `url` both are
    names served there. Paths are absolute, on the machine that runs the job."""

    model: str = Field(min_length=1, max_length=300)
    against: str = Field("", max_length=300)
    file: str = Field(min_length=1, max_length=4000)
    rows: int | None = Field(None, ge=1)
    html: str = Field("", max_length=4000)
    max_tokens: int | None = Field(None, ge=1, le=1_048_576)
    loss: bool = True
    url: str = Field("", max_length=2000)
    api_key_file: str = Field("", max_length=4000)


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """For a job that came over the network: it names no file outside the data directory, and no
    address."""
    check_files(spec, settings)
    if spec.url or spec.api_key_file:
        raise PermissionDenied("a job asks models of its own machine only", param="spec.url")
    return (_stage(spec, settings),)


def plan_here(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage; whoever asked here prints the figures."""
    return (_stage(spec, settings, "--no-table"),)


def _stage(spec: Spec, settings: Settings, *more: str) -> Stage:
    words: dict[str, object] = {
        "file": spec.file,
        "rows": spec.rows,
        "html": spec.html,
        "max-tokens": spec.max_tokens,
    }
    models = _served(spec) if spec.url else _private(spec, scan(settings))
    return Stage("evaluate", stage_argv("evaluate.py", *flags(words), *models, *more))


def _served(spec: Spec) -> list[str]:
    base = spec.url.rstrip("/").removesuffix("/v1")
    words: dict[str, object] = {
        "url": f"{base}/v1",
        "api-key-file": spec.api_key_file,
        "model": spec.model,
        "against": spec.against,
    }
    return flags(words)


def _private(spec: Spec, catalog: Catalog) -> list[str]:
    model = catalog.find(spec.model)
    against = spec.against or (model.base if model.kind == "adapter" else None)
    both = [catalog.find(against)] if against else []
    variants = [_variant(each, catalog) for each in (*both, model)]
    if len(set(variants)) < len(variants):
        raise BadRequest(
            f"`{spec.model}` and `{spec.against}` are the same model, `{model.name}`",
            param="against",
        )
    return [*variants, *(["--loss"] if spec.loss else [])]


def _variant(model: Model, catalog: Catalog) -> str:
    if model.kind == "adapter":
        assert model.base is not None
        return f"--variant={model.name}={catalog.find(model.base).path}+{model.path}"
    if model.kind != "base":
        raise BadRequest(
            f"`{model.name}` is an embedding model, which answers nothing; name a chat model",
            param="model",
        )
    return f"--variant={model.name}={model.path}"


KIND = Kind("evaluate", Spec, plan)
HERE = Kind("evaluate", Spec, plan_here)
