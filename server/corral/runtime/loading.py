"""How far the loads of sections have come, as the router tells it while they go on.

It is asked only while something loads: for every listener the router looks a hundred times a second
whether it is still there, 5 ms of CPU in each second.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from corral.errors import NotReady, UpstreamError
from corral.runtime.command import Endpoint

# Before the stream of events is asked for again, where it has ended.
AGAIN_SECONDS = 1.0
# For Retry-After: where nothing is known, and at most.
USUAL_SECONDS = 5
MOST_SECONDS = 60

Events = Callable[[Endpoint], AbstractAsyncContextManager[AsyncIterator[Mapping[str, Any]]]]
# Each section's status.
States = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Load:
    """One load under way: the share that is read, and since when, on the loop's clock."""

    share: float
    began: float


class Loading:
    """One event loop's. Shares are known only of what has been told: none, before `follow` runs."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._loads: dict[str, Load] = {}
        self._sections: set[str] = set()
        # Set while there are any.
        self._some = asyncio.Event()

    async def follow(
        self, router: Callable[[], Awaitable[Endpoint]], events: Events, states: States
    ) -> None:
        """Keep up with the events of the router that runs, whenever one loads, until cancelled."""
        while True:
            await self._some.wait()
            with contextlib.suppress(NotReady, UpstreamError):
                await self._listen(await router(), events, states)
            self._loads.clear()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self, router: Endpoint, events: Events, states: States) -> None:
        async with events(router) as told:
            # What ended before the events began, none of them tells.
            self.see(await states())
            while self._some.is_set() and (event := await anext(told, None)) is not None:
                self.note(event)

    def see(self, states: Mapping[str, str]) -> None:
        """Take in each section's status: while one of them loads, the router's events are followed."""
        self._going({section for section, state in states.items() if state == "loading"})

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in one event: a change of a section's status, with the progress of its load."""
        data = event.get("data")
        if event.get("event") != "status_change" or not isinstance(data, dict):
            return
        section = str(event.get("model"))
        share = _share(data.get("progress"))
        if data.get("status") != "loading":
            self._loads.pop(section, None)
            self._going(self._sections - {section})
            return
        self._going(self._sections | {section})
        if share is not None:
            before = self._loads.get(section)
            self._loads[section] = Load(share, before.began if before else self._clock())

    def told(self, section: str) -> str:
        """For messages: `is loading`, with the share where it is known."""
        load = self._loads.get(section)
        return f"is loading, {load.share:.0%} of it read" if load else "is loading"

    def seconds_left(self, section: str) -> int:
        """When to ask again: what is left at the speed so far."""
        load = self._loads.get(section)
        if load is None or load.share <= 0:
            return USUAL_SECONDS
        left = (self._clock() - load.began) * (1 - load.share) / load.share
        return max(1, min(MOST_SECONDS, math.ceil(left)))

    def _going(self, sections: set[str]) -> None:
        self._sections = sections
        if sections:
            self._some.set()
        else:
            self._some.clear()


def _share(progress: object) -> float | None:
    """Of all stages together: a model, then what belongs to it."""
    if not isinstance(progress, dict):
        return None
    stages, current, value = (progress.get(key) for key in ("stages", "current", "value"))
    if not isinstance(stages, list) or current not in stages or not isinstance(value, int | float):
        return None
    return float((stages.index(current) + min(1.0, max(0.0, value))) / len(stages))
