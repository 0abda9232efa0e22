"""What there is to serve now, looked for every second and whenever somebody asks.

One task looks, one look at a time: however many ask, the database and the folders are read at most
`1 / GAP_SECONDS` times a second, and whoever asks gives up without harm to the others.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from corral.errors import CorralError
from corral.registry.catalog import Catalog

logger = logging.getLogger("corral.runtime")

POLL_SECONDS = 1.0
GAP_SECONDS = 0.1


class Lookout:
    """`latest` is what the newest look has found, `changed` is set with each new one. `poll` blocks; it gives
    a catalogue when something may have changed, else None."""

    def __init__(self, catalog: Catalog, poll: Callable[[], Catalog | None]) -> None:
        self.latest = catalog
        self.changed = asyncio.Event()
        self._poll = poll
        self._asked = asyncio.Event()
        # Set at the end of the next look to begin; None while nobody looks.
        self._next: asyncio.Event | None = None

    async def run(self) -> None:
        """Until cancelled."""
        self._next = asyncio.Event()
        try:
            while True:
                self._asked.clear()
                # Who asks from here on waits for the look after this one: this one may miss what
                # they know of.
                this, self._next = self._next, asyncio.Event()
                try:
                    await self._look()
                finally:
                    this.set()
                await asyncio.sleep(GAP_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS - GAP_SECONDS):
                        await self._asked.wait()
        finally:
            self._next.set()
            self._next = None

    async def look(self) -> None:
        """Return when a look that began after this call has ended; at once while nobody looks."""
        if self._next is not None:
            self._asked.set()
            await self._next.wait()

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._poll)
        except CorralError as error:
            logger.warning("looking for models: %s", error.message)
        # The edge of the task that looks: without it Corral would be blind to every later change.
        except Exception:
            logger.exception("looking for models failed")
        else:
            if found is not None and found != self.latest:
                self.latest = found
                self.changed.set()
