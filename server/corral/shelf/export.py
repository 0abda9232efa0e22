"""Export a model to a desktop app: GPT4All, LM Studio, Ollama, or a plain folder."""

import json
import platform
from pathlib import Path
from typing import Literal

from pydantic import Field

from corral import settings as settings_module
from corral.errors import BadRequest, PermissionDenied
from corral.jobs import kinds
from corral.jobs.kinds import Kind, Stage, stage_argv
from corral.registry.apps import APPS, check_architecture, find_folder
from corral.registry.catalog import Model
from corral.registry.scan import scan
from corral.settings import Settings

EXPORTS = "exports"


class Spec(kinds.Spec):
    """`dest`, `template` and `prompts` are absolute paths on the machine that runs the job."""

    name: str = Field(min_length=1, max_length=300)
    to: Literal["gpt4all", "lmstudio", "ollama", "folder"]
    dest: str = Field("", max_length=4000)
    quantize: str = Field("", pattern=r"^[A-Za-z0-9_]{0,20}$")
    publisher: str = Field("corral", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    merge: bool = True
    force: bool = False
    template: str = Field("", max_length=4000)
    prompts: str = Field("", max_length=4000)


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """For a job that came over the network: it may write to `data/exports` and the apps' own folders,
    and read no file that it names."""
    allowed = (settings.data_dir / EXPORTS).resolve()
    if spec.dest and not Path(spec.dest).resolve().is_relative_to(allowed):
        raise PermissionDenied(
            f"a job may export into {allowed} or an app's own folder only, not {spec.dest}; run "
            "`corral models export` on that machine for another place",
            param="spec.dest",
        )
    if spec.template or spec.prompts:
        raise PermissionDenied(
            "a job reads no `template` and no `prompts` file; run `corral models export` on that "
            "machine",
            param="spec.template" if spec.template else "spec.prompts",
        )
    return plan_here(spec, settings, folder)


def plan_here(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """One stage, for whoever is on this machine anyway: any folder, any file."""
    catalog = scan(settings)
    model = catalog.find(spec.name)
    base = catalog.models[model.base] if model.kind == "adapter" and model.base else model
    check_architecture(spec.to, base.architecture)
    if not spec.merge and base is model:
        raise BadRequest(f"`{model.name}` is no adapter: leave out --no-merge", param="merge")
    words = {
        "model": base.path,
        "lora": model.path if base is not model else "",
        "name": model.name,
        "to": spec.to,
        "dest": spec.dest or default_dest(spec.to, settings),
        "bin": settings.llama_bin_dir,
        "quantize": spec.quantize,
        "publisher": spec.publisher,
        "defaults": json.dumps(dict(model.defaults)),
        "description": model.description,
        "threads": _threads(base, settings),
        "template": spec.template,
        "prompts": spec.prompts,
    }
    flags = {"no-merge": not spec.merge, "force": spec.force}
    arguments = [f"--{word}={value}" for word, value in words.items() if value]
    arguments += [f"--{flag}" for flag, on in flags.items() if on]
    return (Stage("export", stage_argv("export_model.py", *arguments)),)


def default_dest(to: str, settings: Settings) -> Path:
    """The app's own folder, which must be there; for the others one in the data directory."""
    if to in APPS:
        return find_folder(to, platform.system(), Path.home(), settings_module.app_folders())
    return settings.data_dir / EXPORTS / to


def _threads(base: Model, settings: Settings) -> int | str:
    return settings.threads or base.threads or ""


KIND = Kind("export", Spec, plan)
# The same from the command line, where nothing is gained by forbidding a folder.
HERE = Kind("export", Spec, plan_here)
