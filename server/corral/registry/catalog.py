"""The catalogue: every model and adapter there is, by name, and what is wrong with the rest.

Three sources, in this order: the bundled `models/models.toml`, the registry, and GGUF files dropped
into the folders that are scanned. A bad file becomes a `Problem`; it never takes another model
down. Scanning reads headers only. A catalogue is immutable: scan again to see changes.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from corral.caller import HOUSE, Caller
from corral.errors import InvalidModel, ModelNotFound

Kind = Literal["base", "adapter", "embedding"]
Default = int | float | str | bool

# Names become section names and file names of llama-server's presets, so they are kept tame: a
# colon there is read as a quantisation tag, a slash as a folder.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
# An adapter is no section: it is named by a number there, and its own name may hold colons
# (`ft:corral-tiny:local:suffix:id`).
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}\Z")
SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\Z")
PROVIDER_PREFIX = "openai/"
# After an alias: what it means for a request that brings tools.
WITH_TOOLS = "+tools"


@dataclass(frozen=True)
class Model:
    """Something that can answer requests under `name`."""

    name: str
    kind: Kind
    path: Path
    source: str
    created: int = 0
    size: int = 0
    # Nanoseconds; with path and size it tells a replaced file from the one before.
    modified: int = 0
    base: str | None = None
    base_sha256: str | None = None
    mmproj: Path | None = None
    description: str = ""
    sha256: str | None = None
    architecture: str = ""
    context_length: int | None = None
    pooling: str | None = None
    threads: int | None = None
    has_chat_template: bool = False
    defaults: Mapping[str, Default] = field(default_factory=dict)
    owner: str = HOUSE

    def same_file(self, other: "Model") -> bool:
        """Whether both are the same, unchanged file."""
        return self._file() == other._file()

    def _file(self) -> tuple[object, ...]:
        return (self.path, self.size, self.modified, self.sha256)


@dataclass(frozen=True)
class Problem:
    """A model that cannot be served, and why."""

    name: str
    path: Path
    message: str


@dataclass(frozen=True)
class Catalog:
    """What can be served, by name, with the aliases of the settings."""

    models: Mapping[str, Model]
    problems: tuple[Problem, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str, *, with_tools: bool = False) -> Model:
        """The model that a client means by `name`.

        Names are looked up whole, never split. One leading `openai/` (LiteLLM and DSPy send it) and
        percent-encoding are undone when the name as sent is unknown. An alias may lead elsewhere
        `with_tools`: `NAME+tools` among the aliases, where its model is there.
        """
        for candidate in _spellings(name):
            target = self.aliases.get(candidate, candidate)
            if with_tools:
                special = self.aliases.get(candidate + WITH_TOOLS, target)
                target = special if special in self.models else target
            model = self.models.get(target)
            if model is not None:
                return model
        raise ModelNotFound(self._unknown(name), param="model")

    def seen_by(self, caller: Caller) -> "Catalog":
        """This catalogue as `caller` sees it: without the models of other owners and those its key may
        not use. What it has made itself it may use; of a list of names, aliases mean their models.
        What cannot be served is told to the house alone."""
        if caller.sees_all_models:
            return self
        allowed = None if caller.models is None else self._meant(caller.models)
        return replace(
            self,
            models={m.name: m for m in self.models.values() if _may_use(caller, m, allowed)},
            problems=(),
        )

    def _meant(self, names: Collection[str]) -> set[str]:
        """The names of the models that these names lead to, for requests with and without tools."""
        plain = [name.removeprefix(PROVIDER_PREFIX) for name in names]
        with_tools = [self.aliases[n + WITH_TOOLS] for n in plain if n + WITH_TOOLS in self.aliases]
        return {self.aliases.get(name, name) for name in plain} | set(with_tools)

    def without(self, name: str, message: str) -> "Catalog":
        """This catalogue with the model `name`, and the adapters over it, as problems instead."""
        gone = [m for m in self.models.values() if name in (m.name, m.base)]
        problems = [Problem(model.name, model.path, message) for model in gone]
        return self.hidden(name).with_problems(problems)

    def hidden(self, name: str) -> "Catalog":
        """This catalogue without the model `name` and the adapters over it."""
        kept = {m.name: m for m in self.models.values() if name not in (m.name, m.base)}
        return replace(self, models=kept)

    def with_problems(self, problems: Iterable[Problem]) -> "Catalog":
        """This catalogue with more problems."""
        return replace(self, problems=(*self.problems, *problems))

    def with_family(self, base: str, source: "Catalog") -> "Catalog":
        """This catalogue with the model `base` and the adapters over it as they are in `source`,
        where there may be none."""
        family = {m.name: m for m in source.models.values() if base in (m.name, m.base)}
        models = {**self.hidden(base).models, **family}
        return replace(self, models=dict(sorted(models.items())))

    def names(self) -> list[str]:
        """Every name to be sent as `model`, aliases with a working target included."""
        working = (a for a, target in self.aliases.items() if target in self.models)
        return [*self.models, *(a for a in working if not a.endswith(WITH_TOOLS))]

    def _unknown(self, name: str) -> str:
        broken = [problem for problem in self.problems if problem.name in _spellings(name)]
        if broken:
            return f"model `{name}` cannot be served: {broken[0].message}"
        known = ", ".join(f"`{known}`" for known in self.names()) or "none; see `corral models ls`"
        return f"the model `{name}` does not exist here; there are: {known}"


def _may_use(caller: Caller, model: Model, allowed: Collection[str] | None) -> bool:
    if model.owner != HOUSE and model.owner == caller.owner:
        return True
    if caller.only is not None and model.owner != HOUSE:
        return False
    return allowed is None or model.name in allowed


def _spellings(name: str) -> list[str]:
    decoded = unquote(name)
    spellings = [name, decoded, decoded.removeprefix(PROVIDER_PREFIX)]
    return list(dict.fromkeys(spellings))


def tame(stem: str) -> str:
    """A file's stem as a model name: characters that no name may hold become `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:200] or "model"


def allowed_name(name: str, kind: str) -> bool:
    """Whether a model of this kind may have this name."""
    return bool((ADAPTER_NAME if kind == "adapter" else NAME).match(name))


class Collector:
    """Gathers models and problems from several sources; the first to use a name keeps it."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.problems: list[Problem] = []

    def add(self, model: Model) -> None:
        """Take `model`, or record why it is refused."""
        other = self.models.get(model.name)
        if other is not None:
            message = f"{model.path} has the name of {other.path}; rename the file"
            self.problems.append(Problem(model.name, model.path, message))
        elif not allowed_name(model.name, model.kind):
            message = f"`{model.name}` is no model name: letters, digits, `.`, `_`, `-`, up to 200"
            self.problems.append(Problem(model.name, model.path, message))
        elif any(character in str(model.path) for character in ";#,\n\r"):
            # llama-server's preset format ends a value at `;` or `#`, and splits adapters at `,`.
            message = f"the path {model.path} holds `;`, `#` or `,`; move or rename it"
            self.problems.append(Problem(model.name, model.path, message))
        else:
            self.models[model.name] = model

    def fail(self, name: str, path: Path, error: InvalidModel) -> None:
        """Record that `path` cannot be served."""
        self.problems.append(Problem(name, path, error.message))

    def catalog(self, aliases: Mapping[str, str]) -> Catalog:
        """The finished catalogue, without adapters whose base is missing."""
        for model in [model for model in self.models.values() if model.kind == "adapter"]:
            base = self.models.get(model.base or "")
            message = _why_not(model, base)
            if message is None and base is not None:
                context = base.context_length
                self.models[model.name] = replace(model, context_length=context)
            else:
                del self.models[model.name]
                self.problems.append(Problem(model.name, model.path, str(message)))
        return Catalog(dict(sorted(self.models.items())), tuple(self.problems), dict(aliases))


def _why_not(adapter: Model, base: Model | None) -> str | None:
    """Why this adapter cannot be served over this base; None when it can."""
    if base is None or base.kind != "base":
        return f"adapter `{adapter.name}` needs the base model `{adapter.base}`, not there"
    if adapter.base_sha256 and base.sha256 and adapter.base_sha256 != base.sha256:
        return (
            f"adapter `{adapter.name}` was made for other weights of `{base.name}` (sha256 "
            f"{adapter.base_sha256[:12]}…, here {base.sha256[:12]}…); make it again, or bring "
            "those weights back"
        )
    return None


def shards(paths: Collection[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Of `paths`, those that name a model (the first shard stands for all), and the incomplete."""
    found = {path.name for path in paths}
    whole, incomplete = [], []
    for path in sorted(paths):
        match = SHARD.match(path.stem)
        if match is None:
            whole.append(path)
        elif int(match["index"]) == 1:
            count = int(match["count"])
            names = [f"{match['stem']}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
            missing = [name for name in names if name not in found]
            if missing:
                incomplete.append((path, f"the shard {missing[0]} is missing"))
            else:
                whole.append(path)
    return whole, incomplete
