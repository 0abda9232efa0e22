"""From a section to an open response of the llama-server that serves it.

The only file that knows by which way a request reaches an instance: straight to its own port. The
router loads, lists and ends instances; a request goes through it only where it does not tell ports.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from corral.errors import ModelNotFound, NotReady, UpstreamError
from corral.registry.catalog import Catalog, Model
from corral.registry.watch import Watch
from corral.runtime.board import Board, Serving
from corral.runtime.client import RouterClient
from corral.runtime.command import Endpoint
from corral.runtime.connection import Connection
from corral.runtime.instances import Instances
from corral.runtime.loading import Loading
from corral.runtime.lookout import Lookout
from corral.runtime.presets import lay_out
from corral.runtime.publisher import Eyes, Publisher
from corral.runtime.supervisor import Supervisor
from corral.settings import Settings

# The router answers with this, as plain text, when the connection to an instance could not be made:
# the instance has just died and the router has not noticed yet. Nothing was sent, so asking again
# is safe; by then the router loads the model anew.
NOT_CONNECTED = b"proxy error: Could not establish connection"
RECONNECT_PAUSE = 0.1
RECONNECTS = 20
SETTLE_SECONDS = 2.0
# How long one wait for a router's start is, for what goes on waiting anyway.
ROUTER_SECONDS = 60.0


@dataclass(frozen=True)
class Readiness:
    """Whether requests can be served; `reason` says why not. `sections` has each one's state.
    `failed`: waiting alone will not help."""

    ready: bool
    reason: str
    sections: Mapping[str, str]
    failed: bool = False


class Runtime:
    """Every model there is, ready to be asked; it follows the changes that `version` and the scanned
    folders show. `catalog` is what is served first."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        on_restart: Callable[[], None] = lambda: None,
        version: Callable[[], int] = lambda: 0,
    ) -> None:
        self.board = Board(Serving(settings, catalog, lay_out(catalog, settings)))
        self._settings = settings
        self._client = RouterClient(settings.upstream_timeout)
        presets = self.board.ini_at_start
        self.supervisor = Supervisor(settings, presets, self._client, on_restart)
        self._loading = Loading()
        self._instances = Instances(settings, self.board, self._client, self._loading)
        self._lookout = Lookout(catalog, Watch(settings, version).poll)
        self._publisher = Publisher(
            settings,
            self.board,
            self.supervisor,
            self._client,
            self._instances,
            self._lookout,
        )

    @property
    def serving(self) -> Serving:
        """What is served now. Take it once and keep it: it may be another after any await."""
        return self.board.serving

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Runtime"]:
        """llama-server runs inside the block and is gone, with its instances, after it."""
        async with self._client:
            await self.supervisor.start()
            own = (
                ("lookout", self._lookout.run()),
                ("publisher", self._publisher.run()),
                ("loading", self._loading.follow(self._router, self._client.events, self._states)),
            )
            tasks = [asyncio.create_task(work, name=name) for name, work in own]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.supervisor.stop()

    async def find(self, name: str, *, seen: Eyes | None = None) -> tuple[Catalog, Model]:
        """What is served, or what is `seen` of it, and the model that `name` means there. One that has just
        been made, a job's result for instance, is waited for. Raises ModelNotFound."""
        try:
            return _found(self.serving.catalog, name, seen)
        except ModelNotFound:
            await self._publisher.catch_up(name, seen)
        return _found(self.serving.catalog, name, seen)

    async def take(
        self, name: str, *, with_tools: bool = False, seen: Eyes | None = None
    ) -> tuple[Serving, Model]:
        """The board's `take`; waits as `find` does."""
        try:
            return await self.board.take(name, with_tools=with_tools, seen=seen)
        except ModelNotFound:
            await self._publisher.catch_up(name, seen)
        return await self.board.take(name, with_tools=with_tools, seen=seen)

    async def post(
        self, section: str, path: str, body: bytes, *, stream: bool = False
    ) -> Connection:
        """Ask the instance of `section`, which the caller holds on the board; returns when the
        head of the answer is there. The caller ends it.

        Waits for a start, restart or load in progress, and asks again while an instance that has
        died is being replaced; all only as long as nothing of the request was acted upon.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.load_timeout
        for attempt in range(RECONNECTS):
            router = await self.supervisor.ensure_ready(max(0.0, deadline - now()))
            try:
                address = self._instances.known(router, section)
                if address is None:
                    address = await self._instances.find(router, section, deadline)
                response = await self._client.post(address, path, body, stream=stream)
            except NotReady:
                self._instances.forget(section)
                if attempt == RECONNECTS - 1 or now() >= deadline:
                    raise
            except UpstreamError:
                await self.settle(section)
                raise
            else:
                if not await _instance_gone(response):
                    return response
                response.end()
            await asyncio.sleep(RECONNECT_PAUSE)
        raise NotReady("the model's llama-server does not come up", headers={"Retry-After": "5"})

    async def settle(self, section: str) -> None:
        """After a broken connection: return once llama-server and the instance of `section` are
        known to be alive or known to be dead. Else the very next request could be sent down another
        connection to the dead one."""
        await self.supervisor.verify(SETTLE_SECONDS)
        with contextlib.suppress(NotReady):
            router = await self.supervisor.ensure_ready(0)
            await self._instances.settle(router, section, SETTLE_SECONDS)

    async def _router(self) -> Endpoint:
        return await self.supervisor.ensure_ready(ROUTER_SECONDS)

    async def _states(self) -> Mapping[str, str]:
        sections = await self.supervisor.sections()
        return {name: state for name, (state, _) in sections.items()}

    async def readiness(self) -> Readiness:
        """Whether requests can be served now, and what each section does."""
        status = self.supervisor.status
        states = await self._states()
        self._loading.see(states)
        if status.phase != "ready":
            detail = f": {status.detail}" if status.detail else ""
            return Readiness(False, f"llama-server is {status.phase}{detail}", states)
        for section in self.serving.layout.preloaded:
            state = states.get(section, "unknown")
            # `unloaded` without a failure: it was evicted or has died, and the next request wakes it.
            if state == "failed":
                log = self.supervisor.log
                return Readiness(
                    False, f"model `{section}` failed to load; see {log}", states, True
                )
            if state == "loading":
                told = f"model `{section}` {self._loading.told(section)}"
                return Readiness(False, told, states)
        return Readiness(True, "", states)


def _found(catalog: Catalog, name: str, seen: Eyes | None) -> tuple[Catalog, Model]:
    catalog = catalog if seen is None else seen(catalog)
    return catalog, catalog.find(name)


async def _instance_gone(response: Connection) -> bool:
    """Whether this is the router's note that the instance could not be reached."""
    if response.status != 500:
        return False
    try:
        return (await response.body()).startswith(NOT_CONNECTED)
    except OSError:
        return False  # whoever reads the answer finds it broken off
    except asyncio.CancelledError:
        response.close()
        raise
