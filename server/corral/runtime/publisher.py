"""Bring a changed catalogue into service while requests run.

One task owns it. A changed set of adapters is a new section beside the old one: listed, loaded,
switched to in one step; the old section is unloaded when its last request has ended. What does not
load is left out, told as a problem of the catalogue, and tried again when the catalogue changes.
A section in service that fails to load is put together anew in the same way, once per catalogue.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from corral.errors import CorralError, ModelNotFound, NotReady, UpstreamError
from corral.registry import failures
from corral.registry.catalog import Catalog, Model, Problem
from corral.registry.failures import Failure
from corral.runtime.board import Board, Serving
from corral.runtime.client import NoRoom, RouterClient
from corral.runtime.command import Endpoint
from corral.runtime.instances import Instances
from corral.runtime.lookout import Lookout
from corral.runtime.presets import Layout, Section
from corral.runtime.supervisor import Supervisor
from corral.settings import Settings

logger = logging.getLogger("corral.runtime")

POLL_SECONDS = 1.0
ASK_SECONDS = 0.1
# A first failure may be of the moment: memory, or a kill. A broken file fails twice, quickly.
ATTEMPTS = 2
LOADED = ("loaded", "sleeping")
# What makes of a catalogue the part that one caller may know of.
Eyes = Callable[[Catalog], Catalog]


class Publisher:
    """Compares what there is with what is served, and changes the latter. `run` in one task."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        supervisor: Supervisor,
        client: RouterClient,
        instances: Instances,
        lookout: Lookout,
    ) -> None:
        self._settings = settings
        self._board = board
        self._supervisor = supervisor
        self._client = client
        self._instances = instances
        self._lookout = lookout
        # What there was at the last turn, problems of loading aside; what is served may hold less.
        self._catalog = lookout.latest
        self._pending = False
        self._suspected: set[str] = set()
        self._tried: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._stale = False
        # Set at the end of the turn that runs now, or of the next one.
        self._turned = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        failures.record(self._settings, [])
        try:
            while True:
                self._lookout.changed.clear()
                await self._turn()
                turned, self._turned = self._turned, asyncio.Event()
                turned.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._lookout.changed.wait()
        finally:
            self._board.resume()
            failures.record(self._settings, [])

    async def catch_up(self, name: str, seen: Eyes | None = None) -> None:
        """Return once the model `name` is served, or known not to be there, or not to be `seen`: one that has
        just been made is waited for, `load_timeout` at most, then NotReady."""
        try:
            async with asyncio.timeout(self._settings.load_timeout):
                await self._lookout.look()
                while self._is_coming(name, seen):
                    await self._turned.wait()
        except TimeoutError:
            message = f"the model `{name}` is not loaded yet; try again in a few seconds"
            raise NotReady(message, headers={"Retry-After": "5"}) from None

    def _is_coming(self, name: str, seen: Eyes | None) -> bool:
        latest = self._lookout.latest
        if latest is self._catalog and not self._pending:
            return False
        try:
            (latest if seen is None else seen(latest)).find(name)
        except ModelNotFound:
            return False
        return True

    async def _turn(self) -> None:
        """Bring what there is into service. What goes wrong is logged, and a change not yet in service is kept for
        the next turn: a publisher that ended by itself would leave Corral blind to every later change."""
        try:
            if self._lookout.latest is not self._catalog:
                self._catalog, self._pending = self._lookout.latest, True
                self._suspected = set()
            await self._suspect()
            if self._pending:
                await self._publish(self._catalog)
                self._pending = False
            self._board.forget_idle()
            if self._unlisted():
                await self._list()
        except CorralError as error:
            logger.warning("publishing waits: %s", error.message)
        # The edge of the task that owns publication.
        except Exception:
            logger.exception("publishing failed")

    async def _suspect(self) -> None:
        """Notice the sections in service that have failed and that fewer adapters may bring back."""
        served = self._board.serving.layout.sections
        names = {section.name for section in served if section.adapters} - self._suspected
        # Most of the time there are none, and nothing is asked.
        states = await self._supervisor.sections() if names else {}
        failed = {name for name in names if states.get(name, ("", None))[0] == "failed"}
        if failed:
            self._suspected |= failed
            self._pending = True

    async def _publish(self, catalog: Catalog) -> None:
        before = self._board.serving
        self._tried, self._failures = set(), {}
        try:
            catalog, layout = await self._prepare(catalog)
            problems = [Problem(f.model.name, f.model.path, f.message) for f in self._failed()]
            catalog = catalog.with_problems(problems)
            self._board.switch(Serving(self._settings, catalog, layout))
        finally:
            self._board.resume()
        failures.record(self._settings, self._failed())
        _log_switch(before, self._board.serving)

    def _failed(self) -> list[Failure]:
        return list(self._failures.values())

    async def _prepare(self, catalog: Catalog) -> tuple[Catalog, Layout]:
        """A catalogue that can be switched to, and its layout: all of it listed by the router, and
        loaded where something that is served now depends on it."""
        while True:
            layout = self._board.plan(catalog)
            for section in layout.sections:
                self._board.expect(section)
            missing = [section for section in layout.sections if self._must_load(section)]
            if not missing:
                await self._list()
                return catalog, layout
            if not await self._load(missing[0]):
                catalog = await self._without_culprits(catalog, missing[0])

    def _must_load(self, section: Section) -> bool:
        """A new section, unless it is a base alone that nobody has used yet: that one is loaded by
        its first request and can spoil no other model."""
        now = self._board.serving.layout
        if section.name in self._tried:
            return False
        if any(section.name == served.name for served in now.sections):
            return section.name in self._suspected
        return bool(section.adapters or section.preload or now.section_of(section.model.name))

    async def _without_culprits(self, catalog: Catalog, section: Section) -> Catalog:
        """`catalog` changed so that its plan is no longer the failed `section`: without the adapters
        there that do not load, or, where none of them is new, with the base's models as before."""
        newcomers = self._newcomers(section)
        if not newcomers:
            self._fail(section.model)
            return catalog.with_family(section.model.name, self._board.serving.catalog)
        accepted: Section | None = None
        for index, adapter in enumerate(newcomers):
            trial = self._trial(catalog, section.model, newcomers[index + 1 :])
            if len(newcomers) > 1 and await self._load(trial):
                if accepted is not None:
                    self._board.give_up(accepted)
                accepted = trial
            else:
                self._fail(adapter)
                catalog = catalog.hidden(adapter.name)
        return catalog

    def _trial(self, catalog: Catalog, base: Model, untried: list[Model]) -> Section:
        """The section of `base` without the adapters that have not had their turn."""
        for adapter in untried:
            catalog = catalog.hidden(adapter.name)
        trial = self._board.plan(catalog).section_of(base.name)
        assert trial is not None, "a catalogue has the base of each of its adapters"
        return trial

    def _newcomers(self, section: Section) -> list[Model]:
        """The adapters of `section` that have not been loaded with this very base so far."""
        before = self._board.serving.layout.section_of(section.model.name)
        proven: tuple[Model, ...] = ()
        if before is not None and before.name not in self._suspected:
            proven = before.adapters if before.model.same_file(section.model) else ()
        return [a for a in section.adapters if not any(a.same_file(old) for old in proven)]

    def _fail(self, model: Model) -> None:
        message = (
            f"llama-server did not load {model.path}; the end of {self._supervisor.log} says why. "
            "It is tried again when the models change"
        )
        logger.error("not published: %s", message, extra={"model": model.name})
        self._failures[model.name] = Failure(model, message)

    async def _load(self, section: Section) -> bool:
        """Load `section` beside what runs; False when it does not load."""
        self._board.expect(section)
        self._tried.add(section.name)
        for _ in range(ATTEMPTS):
            await self._ask_to_load(section)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.load_timeout):
                    if await self._loaded(section):
                        return True
        self._board.give_up(section)
        return False

    async def _loaded(self, section: Section) -> bool:
        """Wait for the load to end; a router that was restarted meanwhile is asked again."""
        while True:
            state = await self._state(section)
            if state in LOADED or state == "failed":
                return state in LOADED
            if state != "loading":
                await self._ask_to_load(section)
            await asyncio.sleep(ASK_SECONDS)

    async def _ask_to_load(self, section: Section) -> None:
        """Return when the router has begun to load `section`, however long it has no room for it."""
        while True:
            try:
                endpoint = await self._list()
                if await self._state(section) in (*LOADED, "loading"):
                    return
                if not await self._makes_room(endpoint, section):
                    await self._instances.load(endpoint, section.name)
                    return
            except NoRoom:
                self._board.pause(section.model.name)
            except UpstreamError as error:
                logger.warning("not loaded yet: %s", error.message)
                await asyncio.sleep(POLL_SECONDS)
            await asyncio.sleep(ASK_SECONDS)

    async def _state(self, section: Section) -> str:
        state, _ = (await self._supervisor.sections()).get(section.name, ("unloaded", None))
        return state

    async def _makes_room(self, endpoint: Endpoint, section: Section) -> bool:
        """Where both do not fit: let new requests wait, the old section drain, and unload it. True
        as long as that takes."""
        self._board.forget_idle()
        base = section.model.name
        if self._settings.models_max == 1:
            self._board.pause(base)
        old = self._board.serving.layout.section_of(base)
        if old is None or not self._board.is_paused(base):
            return False
        if await self._state(old) in ("unloaded", "failed"):
            return False
        if not self._board.users(old.name):
            await self._instances.unload(endpoint, old.name)
        return True

    async def _list(self) -> Endpoint:
        """Let the router list what the board has; it unloads what is no longer listed."""
        endpoint = await self._supervisor.ensure_ready(self._settings.load_timeout)
        if self._unlisted():
            self._stale = True
            self._supervisor.write_presets(self._board.ini())
            await self._client.reload(endpoint)
            self._stale = False
        return endpoint

    def _unlisted(self) -> bool:
        """Whether the router may know other sections than the board. Not reloaded without need: a
        reload also forgets which sections have failed."""
        return self._stale or self._supervisor.presets != self._board.ini()


def _log_switch(before: Serving, after: Serving) -> None:
    old, new = set(before.catalog.models), set(after.catalog.models)
    sections = sorted(section.name for section in after.layout.sections)
    if (before.catalog, before.layout) == (after.catalog, after.layout):
        return
    fields = {"added": sorted(new - old), "removed": sorted(old - new), "sections": sections}
    logger.info("the models have changed", extra=fields)
