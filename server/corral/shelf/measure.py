"""Measure models that are here already against the unquantised one. Registers nothing."""

from pathlib import Path

from pydantic import Field

from corral.errors import BadRequest
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.catalog import Model
from corral.registry.scan import scan
from corral.settings import Settings
from corral.shelf.quantize import Measures, check_files, measure_flags, whole_model


class Spec(Measures):
    """`against` is the unquantised model; empty: the base that the registry has recorded."""

    names: tuple[str, ...] = Field(min_length=1, max_length=64)
    against: str = Field("", max_length=300)


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """For a job that came over the network: it names no file outside the data directory."""
    check_files(spec, settings)
    return plan_here(spec, settings, folder)


def plan_here(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage. Only a bar that was asked for refuses."""
    catalog = scan(settings)
    models = [whole_model(catalog, name) for name in spec.names]
    base = whole_model(catalog, spec.against or recorded_base(models, settings))
    given = measure_flags(spec, settings, catalog, base)
    if spec.max_kld is None and spec.min_score is None:
        given.append("--no-gate")
    files = _without(models, base)
    return (Stage("measure", stage_argv("measure_gguf.py", *given, *files)),)


def recorded_base(models: list[Model], settings: Settings) -> str:
    """The base that the manifests of all these models name; BadRequest when they name none or several."""
    from corral.registry.store import Registry

    registry = Registry(settings)
    named = set()
    for model in models:
        artifacts = registry.revisions(model.name) if model.source == "registry" else []
        named |= {a.manifest.base.name for a in artifacts[:1] if a.manifest.base is not None}
    if len(named) != 1:
        said = "several: " + ", ".join(sorted(named)) if named else "none is recorded"
        raise BadRequest(
            f"which is the unquantised model? Of these, {said}; name it with --against",
            param="against",
        )
    return str(named.pop())


def _without(models: list[Model], base: Model) -> list[Path]:
    files = [model.path for model in models if model.path != base.path]
    if not files:
        raise BadRequest(f"nothing to compare with `{base.name}`; name its quantised files")
    return files


KIND = Kind("measure", Spec, plan)
HERE = Kind("measure", Spec, plan_here)
