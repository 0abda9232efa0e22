"""Kinds of jobs: what may be asked for, and the stages that do it. Pure.

A feature writes one module per kind with a spec, a plan, and `KIND`:

    class Spec(kinds.Spec):
        model: str
        type: str = "Q4_K_M"

    def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
        return (Stage("quantize", stage_argv("quantize_gguf.py", …, "--out", folder / "out")),)

    KIND = Kind("quantize", Spec, plan)
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from corral.errors import BadRequest, StartupError
from corral.settings import Settings, clone_root

STAGE_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")


class Spec(BaseModel):
    """What a job is asked to do. JSON-ready, no secrets: it is stored and shown."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


@dataclass(frozen=True)
class Stage:
    """One child process. `argv` is complete but for `--events FILE`, which the runner appends. `own`:
    it is a part of Corral, and gets the database's address."""

    name: str
    argv: tuple[str, ...]
    own: bool = False

    def __post_init__(self) -> None:
        if not STAGE_NAME.match(self.name):
            raise ValueError(f"stage name {self.name!r}: lower case, digits, hyphens, at most 40")


# A kind's own plan takes its own spec; `Kind.parse` makes sure that it gets that.
Plan = Callable[[Any, Settings, Path], tuple[Stage, ...]]


@dataclass(frozen=True)
class Kind:
    """A kind of job. `plan(spec, settings, folder)` gives the same stages for the same spec: a job
    that goes on after a crash skips those that are done, told by their argv. Artifacts belong in
    `folder / "out"`, each with its manifest. A plan may raise CorralError: that fails the job."""

    name: str
    spec: type[BaseModel]
    plan: Plan

    def parse(self, spec: Mapping[str, Any]) -> BaseModel:
        """The spec, checked; BadRequest names the first wrong field as `spec.FIELD`."""
        try:
            return self.spec.model_validate(spec)
        except ValidationError as error:
            raise self._explain(error) from None

    def _explain(self, error: ValidationError) -> BadRequest:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(("spec", *(str(part) for part in first["loc"])))
        known = ", ".join(f"`{name}`" for name in self.spec.model_fields)
        hint = f"; a `{self.name}` spec has {known or 'no fields'}"
        return BadRequest(
            f"`{param}`: {first['msg']}{hint if first['type'] == 'extra_forbidden' else ''}",
            param=param,
        )


class Kinds:
    """The kinds that a Corral knows, by name. A kind's module is imported when it is first needed."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        """`modules`: name of the kind to the dotted name of the module whose `KIND` it is."""
        self._modules = dict(modules)

    def beside(self, others: "Kinds") -> "Kinds":
        """These and the others."""
        return Kinds({**self._modules, **others._modules})

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._modules)

    def find(self, name: str) -> Kind:
        """The kind of this name; BadRequest lists those there are."""
        if name not in self._modules:
            known = ", ".join(f"`{known}`" for known in self.names()) or "none"
            raise BadRequest(f"unknown kind of job `{name}`; there are: {known}", param="kind")
        kind: Kind = import_module(self._modules[name]).KIND
        if kind.name != name:
            raise StartupError(f"{self._modules[name]}.KIND is called `{kind.name}`, not `{name}`")
        return kind


def stage_argv(script: str, *arguments: object) -> tuple[str, ...]:
    """The command line of `scripts/SCRIPT` under this Python; arguments become text."""
    root = clone_root()
    path = root / "scripts" / script if root else None
    if path is None or not path.is_file():
        raise StartupError(
            f"the stage {script} is not here: stages run from a clone of Corral, in its scripts/ "
            "folder. Clone the repository and run `make setup` there",
            param=script,
        )
    return (sys.executable, str(path), *(str(argument) for argument in arguments))
