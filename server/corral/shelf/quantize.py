"""Quantise a model: importance matrix, one file for each type, figures of what is lost, the gate.

Nothing is registered unless every type passes: a stage that refuses fails the job.
"""

import json
from pathlib import Path

from pydantic import Field

from corral.errors import BadRequest, PermissionDenied
from corral.jobs import kinds
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.catalog import Catalog, Model
from corral.registry.quant_types import QuantType, quant_types
from corral.registry.scan import scan
from corral.settings import Settings

AUTO, NONE = "auto", "none"
FILES = ("imatrix", "calibration", "text", "score_file", "html", "file")


class Measures(kinds.Spec):
    """How quality is measured, and the bar. Paths are absolute, on the machine that runs the job."""

    max_kld: float | None = Field(None, ge=0, le=100)
    min_score: float | None = Field(None, ge=0, le=1)
    text: str = Field("", max_length=4000)
    ctx: int | None = Field(None, ge=16, le=1_048_576)
    chunks: int | None = Field(None, ge=1)
    score_file: str = Field("", max_length=4000)
    score_rows: int | None = Field(None, ge=1)
    score_adapter: str = Field("", max_length=300)
    html: str = Field("", max_length=4000)
    bench: bool = True


class Spec(Measures):
    """`imatrix` is `auto` (made from `calibration`), `none`, or a file."""

    name: str = Field(min_length=1, max_length=300)
    types: tuple[str, ...] = Field(min_length=1, max_length=64)
    imatrix: str = Field(AUTO, max_length=4000)
    calibration: str = Field("", max_length=4000)
    pure: bool = False
    tensor_type: tuple[str, ...] = ()
    output_tensor_type: str = Field("", max_length=20)
    token_embedding_type: str = Field("", max_length=20)
    leave_output_tensor: bool = False
    allow_requantize: bool = False
    gate: bool = True


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """For a job that came over the network: it names no file outside the data directory."""
    check_files(spec, settings)
    return plan_here(spec, settings, folder)


def plan_here(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage for the importance matrix where it is to be made, one for each type, one to measure."""
    catalog = scan(settings)
    model = whole_model(catalog, spec.name)
    found = quant_types(settings.llama_bin_dir)
    types = list({kind.name: kind for kind in map(found.find, spec.types)}.values())
    out = folder / "out"
    imatrix = spec.imatrix
    stages = []
    if imatrix == AUTO and any(kind.uses_imatrix for kind in types):
        names = [kind.name for kind in types if kind.uses_imatrix]
        stages.append(_quantize("imatrix", spec, settings, model, out, names, "--only-imatrix"))
        imatrix = str(out / f"{model.name}.imatrix.gguf")
    for kind in types:
        used = imatrix if kind.uses_imatrix else NONE
        stage = f"quantize-{kind.name.lower().replace('_', '-')}"
        flag = f"--imatrix={used}"
        stages.append(_quantize(stage, spec, settings, model, out, [kind.name], flag))
    stages.append(_measure(spec, settings, catalog, model, out, types))
    return tuple(stages)


def whole_model(catalog: Catalog, name: str) -> Model:
    """The model of this name; BadRequest for an adapter."""
    model = catalog.find(name)
    if model.kind == "adapter":
        raise BadRequest(
            f"`{model.name}` is an adapter; quantise and measure its base, `{model.base}` (an adapter "
            "is served over a quantised base as well)",
            param="name",
        )
    return model


def check_files(spec: kinds.Spec, settings: Settings) -> None:
    """PermissionDenied for a file outside the data directory."""
    inside = settings.data_dir.resolve()
    for field in FILES:
        value = getattr(spec, field, "")
        if value in ("", AUTO, NONE) or Path(value).resolve().is_relative_to(inside):
            continue
        raise PermissionDenied(
            f"a job uses files in {inside} only, not {value}; put it there, or run the command on that "
            "machine without --corral",
            param=f"spec.{field}",
        )


def flags(words: dict[str, object]) -> list[str]:
    """`--word=value` throughout, so that no value is taken for a flag; True is a bare flag, and what
    was not given is left out."""
    given = {word: value for word, value in words.items() if value not in (None, "", False)}
    return [f"--{word}" if v is True else f"--{word}={v}" for word, v in given.items()]


def measure_flags(spec: Measures, settings: Settings, catalog: Catalog, model: Model) -> list[str]:
    """The flags of measure_gguf.py but for what is to be measured."""
    adapter = catalog.find(spec.score_adapter).path if spec.score_adapter else ""
    words: dict[str, object] = {
        "base": model.path,
        "name": model.name,
        "bin": settings.llama_bin_dir,
        "text": spec.text,
        "ctx": spec.ctx,
        "chunks": spec.chunks,
        "score-file": spec.score_file,
        "score-rows": spec.score_rows,
        "lora": adapter,
        "html": spec.html,
        "threads": threads(model, settings),
        "no-bench": not spec.bench,
    }
    bars = {"max-kld": spec.max_kld, "min-score": spec.min_score}
    return flags(words) + [f"--{bar}={value}" for bar, value in bars.items() if value is not None]


def threads(model: Model, settings: Settings) -> int | None:
    """The model's own number of threads, else that of the settings."""
    own = settings.models.get(model.name)
    return (own.threads if own else None) or model.threads or settings.threads


def _quantize(
    stage: str,
    spec: Spec,
    settings: Settings,
    model: Model,
    out: Path,
    types: list[str],
    *more: str,
) -> Stage:
    about = {"description": model.description, "defaults": dict(model.defaults)}
    words: dict[str, object] = {
        "model": model.path,
        "name": model.name,
        "out": out,
        "bin": settings.llama_bin_dir,
        "calibration": spec.calibration,
        "pure": spec.pure,
        "output-tensor-type": spec.output_tensor_type,
        "token-embedding-type": spec.token_embedding_type,
        "leave-output-tensor": spec.leave_output_tensor,
        "allow-requantize": spec.allow_requantize,
        "threads": threads(model, settings),
        "about": json.dumps(about, ensure_ascii=False),
        # A stage that was killed is run again and finds what it has left.
        "replace": True,
    }
    patterns = [f"--tensor-type={pattern}" for pattern in spec.tensor_type]
    return Stage(stage, stage_argv("quantize_gguf.py", *flags(words), *patterns, *more, *types))


def _measure(
    spec: Spec,
    settings: Settings,
    catalog: Catalog,
    model: Model,
    out: Path,
    types: list[QuantType],
) -> Stage:
    files = [out / f"{model.name}-{kind.name}.gguf" for kind in types]
    given = [*measure_flags(spec, settings, catalog, model), f"--manifests={out}"]
    given += [] if spec.gate else ["--no-gate"]
    return Stage("measure", stage_argv("measure_gguf.py", *given, *files))


KIND = Kind("quantize", Spec, plan)
HERE = Kind("quantize", Spec, plan_here)
