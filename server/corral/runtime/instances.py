"""Where each loaded section listens, and room for the next one.

Requests go straight to a section's own instance; the router starts, lists and ends instances, and
sees none of these requests. So it cannot know which instance is in use: which one makes room is
decided here, by what the board knows, and the router is given no limit of its own
(docs/adr/0008-straight-to-the-instance.md).
"""

import asyncio
import contextlib

from corral.errors import NotReady, UpstreamError
from corral.runtime.board import Board
from corral.runtime.client import Instance, NoRoom, RouterClient
from corral.runtime.command import Endpoint
from corral.runtime.loading import Loading
from corral.settings import Settings

RUNNING = ("loading", "loaded", "sleeping")
ANSWERING = ("loaded", "sleeping")
ASK_SECONDS = 0.05


class Instances:
    """The addresses of loaded sections. One event loop's; `load` one at a time."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        client: RouterClient,
        loading: Loading | None = None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._client = client
        self._progress = loading or Loading()
        self._router: Endpoint | None = None
        self._known: dict[str, Endpoint] = {}
        self._loading = asyncio.Lock()

    def known(self, router: Endpoint, section: str) -> Endpoint | None:
        """Where `section` has been seen to listen under this start of the router; it may have gone."""
        if router is not self._router:
            self._router, self._known = router, {}
        return self._known.get(section)

    def forget(self, section: str) -> None:
        """Ask the router again before the next request."""
        self._known.pop(section, None)

    async def find(self, router: Endpoint, section: str, deadline: float) -> Endpoint:
        """Where `section` answers; loads it, and waits for room and for the load, until `deadline`
        on the loop's clock. Raises NotReady, saying what is awaited, and UpstreamError."""
        asked = False
        while True:
            found = (await self._states(router)).get(section)
            if found is not None and found.status in ANSWERING:
                # An instance that does not tell its port is reached through the router.
                return self._known.get(section, router)
            if asked and found is not None and found.status == "unloaded":
                raise UpstreamError(
                    f"model name={section} failed to load; its output says why",
                    code="model_load_failed",
                )
            if found is None or found.status == "unloaded":
                with contextlib.suppress(NoRoom):
                    await self.load(router, section)
                    asked = True
            self._check_time(deadline, section, asked or found is not None)
            await asyncio.sleep(ASK_SECONDS)

    async def load(self, router: Endpoint, section: str) -> None:
        """Have the router begin to load `section`, after an idle one was unloaded where as many run
        as may. Raises NoRoom when none is idle."""
        async with self._loading:
            states = await self._states(router)
            found = states.get(section)
            if found is not None and found.status in RUNNING:
                return
            await self._make_room(router, states)
            await self._client.load(router, section)
            self._board.touch(section)
            # A new instance may have the port of one that has just gone: what is known of all of
            # them is renewed before anybody can be sent there.
            await self._states(router)

    async def _make_room(self, router: Endpoint, states: dict[str, Instance]) -> None:
        running = [name for name, item in states.items() if item.status in RUNNING]
        while len(running) >= self._settings.models_max:
            idle = [
                n for n in running if states[n].status in ANSWERING and not self._board.users(n)
            ]
            if not idle:
                raise NoRoom("as many models run as `models_max` allows, and none of them is idle")
            victim = min(idle, key=self._board.last_used)
            await self.unload(router, victim)
            running.remove(victim)

    async def unload(self, router: Endpoint, section: str) -> None:
        """End the instance of `section`; returns when it is gone."""
        self.forget(section)
        await self._client.unload(router, section)
        while (item := (await self._states(router)).get(section)) and item.status in RUNNING:
            await asyncio.sleep(ASK_SECONDS)

    async def settle(self, router: Endpoint, section: str, timeout: float) -> None:
        """After a broken connection: return once the instance is known to answer, or its end has
        been noticed by the router; at most `timeout` seconds."""
        address = self.known(router, section)
        self.forget(section)
        if address is None or await self._client.healthy(address):
            return
        with contextlib.suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(timeout):
                while (found := (await self._states(router)).get(section)) is not None:
                    if found.status != "loaded" or found.port != address.port:
                        return
                    await asyncio.sleep(ASK_SECONDS)

    def _check_time(self, deadline: float, section: str, loading: bool) -> None:
        if asyncio.get_running_loop().time() < deadline:
            return
        waits = "waits for another model to become idle"
        what = self._progress.told(section) if loading else waits
        seconds = self._progress.seconds_left(section)
        raise NotReady(
            f"model `{section}` {what}; try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )

    async def _states(self, router: Endpoint) -> dict[str, Instance]:
        """What the router says; the known addresses become what it says."""
        states = {item.section: item for item in await self._client.instances(router)}
        self._progress.see({name: item.status for name, item in states.items()})
        if router is self._router:
            self._known = {
                name: Endpoint(item.port, router.key)
                for name, item in states.items()
                if item.port and item.status in ANSWERING
            }
        return states
