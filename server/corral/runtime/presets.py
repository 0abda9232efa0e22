"""Decide, purely, how the catalogue is laid out over llama-server instances.

One instance serves one base model and a fixed set of adapters. llama-server loads adapters only at
start, so a set of adapters is a *section* of the preset file, called `base@N`; a changed set is a
new section with the next N, loaded beside the old one, never an edit of a running one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.registry.catalog import Catalog, Model
from corral.settings import ModelSettings, Settings

FIRST_GENERATION = 1
# Seconds that llama-server gives an instance to end before it kills it. The gateway has closed
# every stream by then.
INSTANCE_STOP_SECONDS = 1


@dataclass(frozen=True)
class Section:
    """One instance: a base model with a fixed, ordered set of adapters."""

    model: Model
    generation: int = FIRST_GENERATION
    adapters: tuple[Model, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    preload: bool = False

    @property
    def name(self) -> str:
        """`base@N`."""
        return f"{self.model.name}@{self.generation}"

    def serves_as(self, other: "Section") -> bool:
        """Whether both would be the same to llama-server: the same files with the same options."""
        mine, others = (self.model, *self.adapters), (other.model, *other.adapters)
        return (
            self.model.name == other.model.name
            and self.options == other.options
            and len(mine) == len(others)
            and all(one.same_file(two) for one, two in zip(mine, others, strict=True))
        )


@dataclass(frozen=True)
class Placement:
    """Where a model answers: the section, the scale of each adapter there for this model, and how
    many requests the section works on at once.

    `lora` is None where the section has no adapters; else it names every adapter explicitly,
    because llama-server applies the ones that a request leaves out.
    """

    section: str
    lora: tuple[Mapping[str, Any], ...] | None = None
    slots: int = 1


@dataclass(frozen=True)
class Layout:
    """All sections, and the place of every model."""

    sections: tuple[Section, ...]
    placements: Mapping[str, Placement]

    @property
    def preloaded(self) -> tuple[str, ...]:
        """The sections that llama-server loads as it starts."""
        return tuple(section.name for section in self.sections if section.preload)

    def ini(self) -> str:
        """The preset file for `llama-server --models-preset`."""
        return ini(self.sections, self.preloaded)

    def section_of(self, base: str) -> Section | None:
        """The section that serves the base model of this name."""
        return next((section for section in self.sections if section.model.name == base), None)


def ini(sections: Iterable[Section], starting: Collection[str]) -> str:
    """The preset file with these sections, those named in `starting` to be loaded at start."""
    blocks = ["version = 1\n"]
    for section in sections:
        lines = [f"{key} = {value}" for key, value in section.options.items()]
        if section.name in starting:
            lines.append("load-on-startup = true")
        blocks.append("\n".join([f"[{section.name}]", *lines, ""]))
    return "\n".join(blocks)


def succeed(
    known: Collection[Section], catalog: Catalog, settings: Settings, used: Mapping[str, int]
) -> Layout:
    """A layout for a changed catalogue: a base whose files and options are those of a `known`
    section keeps that section, any other gets the generation after the last `used`."""
    generations = {}
    for section in lay_out(catalog, settings).sections:
        base = section.model.name
        same = [old.generation for old in known if old.serves_as(section)]
        generations[base] = max(same, default=used.get(base, 0) + 1)
    return lay_out(catalog, settings, generations)


def lay_out(
    catalog: Catalog, settings: Settings, generations: Mapping[str, int] | None = None
) -> Layout:
    """Give every model of `catalog` its section. `generations` is N per base (default 1)."""
    preload = {catalog.find(name).name for name in settings.preload if _known(catalog, name)}
    sections, placements = [], {}
    for base in (model for model in catalog.models.values() if model.kind != "adapter"):
        adapters = tuple(m for m in catalog.models.values() if m.base == base.name)
        generation = (generations or {}).get(base.name, FIRST_GENERATION)
        first = bool(preload & {base.name, *(adapter.name for adapter in adapters)})
        options = _options(base, adapters, settings)
        section = Section(base, generation, adapters, options, preload=first)
        sections.append(section)
        scales = _scales(adapters, None) if adapters else None
        slots = int(options["parallel"])
        placements[base.name] = Placement(section.name, scales, slots)
        for adapter in adapters:
            placements[adapter.name] = Placement(section.name, _scales(adapters, adapter), slots)
    return Layout(tuple(sections), placements)


def _known(catalog: Catalog, name: str) -> bool:
    return catalog.aliases.get(name, name) in catalog.models


def _scales(adapters: tuple[Model, ...], wanted: Model | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"id": index, "scale": 1.0 if adapter is wanted else 0.0}
        for index, adapter in enumerate(adapters)
    )


def _options(base: Model, adapters: tuple[Model, ...], settings: Settings) -> dict[str, str]:
    own = settings.models.get(base.name, ModelSettings())
    slots = own.slots or settings.slots
    context = own.ctx_size or min(settings.ctx_size, base.context_length or settings.ctx_size)
    gpu_layers = own.gpu_layers if own.gpu_layers is not None else settings.gpu_layers
    options = {
        "model": str(base.path),
        # llama-server divides --ctx-size by the slots; `ctx_size` is what one request may use.
        "ctx-size": str(context * slots),
        "parallel": str(slots),
        "cache-ram": str(settings.prompt_cache_mib),
        "stop-timeout": str(INSTANCE_STOP_SECONDS),
    }
    threads = own.threads or settings.threads or base.threads
    if threads:
        options["threads"] = str(threads)
    if gpu_layers is not None:
        options["n-gpu-layers"] = str(gpu_layers)
    if adapters:
        options["lora"] = ",".join(str(adapter.path) for adapter in adapters)
        options["lora-init-without-apply"] = "true"
        # Kept prompts do not say with which adapter they were read: at this commit a request could go on
        # with another adapter's, and answer what neither would (docs/log.md).
        options["cache-ram"] = "0"
    if base.mmproj:
        options["mmproj"] = str(base.mmproj)
    if base.kind == "embedding":
        # An input is embedded in one batch, so the batch must hold a whole context.
        options |= {"embeddings": "true", "batch-size": str(context), "ubatch-size": str(context)}
        if base.pooling:
            options["pooling"] = base.pooling
    return options
