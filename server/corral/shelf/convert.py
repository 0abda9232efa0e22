"""Convert a Hugging Face folder, or a PEFT LoRA, to GGUF and register it."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from corral.errors import PermissionDenied
from corral.jobs import kinds
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.scan import scan
from corral.settings import Settings
from corral.shelf.quantize import flags, whole_model


class Spec(kinds.Spec):
    """`dir` and `base_dir` are absolute paths on the machine that runs the job. Of a LoRA `base` is the
    name of the model here that it was trained over, and `base_dir` holds that one's config.json."""

    dir: str = Field(min_length=1, max_length=4000)
    name: str = Field(min_length=1, max_length=200)
    outtype: Literal["auto", "f32", "f16", "bf16", "q8_0"] = "auto"
    base: str = Field("", max_length=300)
    base_dir: str = Field("", max_length=4000)
    allow_token_differences: bool = False

    @field_validator("dir", "base_dir")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError(f"`{value}`: a job needs the whole path of the folder")
        return value


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """For a job that came over the network: its folders are in the data directory."""
    inside = settings.data_dir.resolve()
    for field in ("dir", "base_dir"):
        value = getattr(spec, field)
        if value and not Path(value).resolve().is_relative_to(inside):
            raise PermissionDenied(
                f"a job converts folders in {inside} only, not {value}; put it there, or run the "
                "command on that machine without --corral",
                param=f"spec.{field}",
            )
    return plan_here(spec, settings, folder)


def plan_here(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage."""
    base = whole_model(scan(settings), spec.base).name if spec.base else ""
    words: dict[str, object] = {
        "name": spec.name,
        "out": folder / "out",
        "bin": settings.llama_bin_dir,
        "outtype": spec.outtype,
        "base": spec.base_dir,
        "base-name": base,
        "allow-token-differences": spec.allow_token_differences,
        "replace": True,
    }
    return (Stage("convert", stage_argv("convert_gguf.py", *flags(words), spec.dir)),)


KIND = Kind("convert", Spec, plan)
HERE = Kind("convert", Spec, plan_here)
