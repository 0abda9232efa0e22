"""What is served now, what is on its way in or out, and how many requests use what.

No input or output, no tasks: the publisher writes, requests read. All of it is one event loop's,
so whatever holds no `await` is one step to everybody else.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from corral.registry.catalog import Catalog, Default, Model
from corral.runtime.presets import Layout, Placement, Section, ini, succeed
from corral.settings import Settings


@dataclass(frozen=True)
class Serving:
    """What is served at one moment. A request takes one and keeps it to its end."""

    settings: Settings
    catalog: Catalog
    layout: Layout

    def placement(self, model: Model) -> Placement:
        """The section that serves `model`, and its adapters' scales."""
        return self.layout.placements[model.name]

    def defaults(self, model: Model) -> Mapping[str, Default]:
        """The sampling defaults for `model`: its base's, then its own, settings over catalogue."""
        chain = [model] if model.base is None else [self.catalog.models[model.base], model]
        merged: dict[str, Default] = {}
        for link in chain:
            merged |= link.defaults
            if link.name in self.settings.models:
                merged |= self.settings.models[link.name].defaults
        return merged


class Board:
    """The one holder of what is served. `serving` is replaced as a whole, by `switch`."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self._coming: dict[str, Section] = {}
        self._leaving: dict[str, Section] = {}
        self._starting: frozenset[str] = frozenset()
        self._users: Counter[str] = Counter()
        self._last_used: dict[str, float] = {}
        self._paused: dict[str, asyncio.Event] = {}
        self._used = {s.model.name: s.generation for s in serving.layout.sections}

    async def take(
        self,
        name: str,
        *,
        with_tools: bool = False,
        seen: Callable[[Catalog], Catalog] | None = None,
    ) -> tuple[Serving, Model]:
        """What is served, and the model that `name` means there, or in what is `seen` of it; waits
        while its base is paused. Call `hold` before the next await. Raises ModelNotFound."""
        while True:
            catalog = self.serving.catalog if seen is None else seen(self.serving.catalog)
            model = catalog.find(name, with_tools=with_tools)
            paused = self._paused.get(model.base or model.name)
            if paused is None:
                return self.serving, model
            await paused.wait()

    def hold(self, section: str) -> None:
        """Count one more request that uses `section`; it stays loaded until `release`."""
        self._users[section] += 1

    def release(self, section: str) -> None:
        """The request has ended."""
        self.touch(section)
        self._users[section] -= 1
        if not self._users[section]:
            del self._users[section]

    def users(self, section: str) -> int:
        """The requests that use `section` now."""
        return self._users[section]

    def touch(self, section: str) -> None:
        """`section` has just been of use."""
        self._last_used[section] = time.monotonic()

    def last_used(self, section: str) -> float:
        """When `section` was last of use, on the monotonic clock."""
        return self._last_used.get(section, 0.0)

    def pause(self, base: str) -> None:
        """Let new requests for `base` and its adapters wait until `resume`."""
        self._paused.setdefault(base, asyncio.Event())

    def is_paused(self, base: str) -> bool:
        """Whether new requests for `base` wait."""
        return base in self._paused

    def resume(self) -> None:
        """Let every request go on that waits."""
        paused, self._paused = self._paused, {}
        for event in paused.values():
            event.set()

    def plan(self, catalog: Catalog) -> Layout:
        """A layout for `catalog` that keeps every section it can, those on their way out included."""
        known = self._all().values()
        return succeed(known, catalog, self.serving.settings, self._used)

    def expect(self, section: Section) -> None:
        """`section` is about to be loaded."""
        if section.name not in self._all():
            self._coming[section.name] = section
            self._used[section.model.name] = section.generation

    def give_up(self, section: Section) -> None:
        """`section` did not load, or is not wanted after all."""
        self._coming.pop(section.name, None)
        self._leaving.pop(section.name, None)

    def switch(self, serving: Serving) -> None:
        """From now on requests get `serving`; what it does not use is on its way out."""
        known = self._all()
        self.serving = serving
        used = {section.name: section for section in serving.layout.sections}
        self._coming = {}
        self._leaving = {name: section for name, section in known.items() if name not in used}
        self._used |= {s.model.name: s.generation for s in used.values() if s.name not in known}

    def forget_idle(self) -> None:
        """Strike out the sections on their way out that no request uses any more."""
        self._leaving = {n: section for n, section in self._leaving.items() if self._users[n]}

    def ini_at_start(self) -> str:
        """The presets for a router that starts now. Only what is served is loaded by it: it refuses
        to start with more than `models_max`."""
        self._starting = frozenset(self.serving.layout.preloaded)
        return self.ini()

    def ini(self) -> str:
        """The presets for the router that runs. A section is written as that router has first seen
        it, `load-on-startup` included: it ends an instance whose preset has changed."""
        return ini(self._all().values(), self._starting)

    def _all(self) -> dict[str, Section]:
        current = {section.name: section for section in self.serving.layout.sections}
        return {**current, **self._coming, **self._leaving}
