"""How far the loads of sections have come, as the router tells it while they go on."""

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


@dataclass(frozen=True)
class Load:
    """One load under way: the share that is read, and since when, on the loop's clock."""

    share: float
    began: float


class Loading:
    """One event loop's. Known is only what has been told: nothing, before `follow` runs."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._loads: dict[str, Load] = {}

    async def follow(self, router: Callable[[], Awaitable[Endpoint]], events: Events) -> None:
        """Keep up with the events of the router that runs, until cancelled."""
        while True:
            with contextlib.suppress(NotReady, UpstreamError):
                async with events(await router()) as told:
                    async for event in told:
                        self.note(event)
            self._loads.clear()
            await asyncio.sleep(AGAIN_SECONDS)

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in one event: a change of a section's status, with the progress of its load."""
        data = event.get("data")
        if event.get("event") != "status_change" or not isinstance(data, dict):
            return
        section = str(event.get("model"))
        share = _share(data.get("progress"))
        if data.get("status") != "loading":
            self._loads.pop(section, None)
        elif share is not None:
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


def _share(progress: object) -> float | None:
    """Of all stages together: a model, then what belongs to it."""
    if not isinstance(progress, dict):
        return None
    stages, current, value = (progress.get(key) for key in ("stages", "current", "value"))
    if not isinstance(stages, list) or current not in stages or not isinstance(value, int | float):
        return None
    return float((stages.index(current) + min(1.0, max(0.0, value))) / len(stages))
