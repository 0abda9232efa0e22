"""Requests that have ended, counted and logged a few times a second in one go.

One by one, between other requests' tokens, each took 0.18 ms: most of it waiting for code that a model's weights had
driven out of the processor's caches. After kill -9 the lines of the last moment are missing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from corral.gateway.context import RequestContext
from corral.metrics import Metrics

access = logging.getLogger("corral.access")
errors = logging.getLogger("corral.gateway")

SETTLE_SECONDS = 0.25
# So many take 0.6 ms, in which no token is passed on; 16 ones by themselves would take 2.8.
TOGETHER = 16


@dataclass(slots=True)
class Ended:
    """A request that has ended: `at` on the wall clock, after so many `seconds`."""

    scope: Scope
    context: RequestContext
    seconds: float
    at: float

    @property
    def route(self) -> str:
        """The route's pattern, never the raw path: that would be a label without bounds."""
        return getattr(self.scope.get("route"), "path", "") or "unmatched"

    @property
    def ttft(self) -> float | None:
        """Seconds to the first byte of an answer that went well."""
        context = self.context
        if context.status != 200 or context.first_byte is None:
            return None
        return context.first_byte - context.began


# What makes a trace of it.
Traced = Callable[[Ended], None]


class Accounting:
    """One application's. One event loop's."""

    def __init__(self, metrics: Metrics, traced: Traced | None = None) -> None:
        self._metrics, self._traced = metrics, traced
        self._ended: list[Ended] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running = 0
        metrics.in_flight.set_function(lambda: self._running)

    def begin(self) -> None:
        """A request has come."""
        self._running += 1

    def end(self, scope: Scope, context: RequestContext) -> None:
        """It has been answered, or will not be."""
        self._running -= 1
        seconds = time.perf_counter() - context.began
        self._ended.append(Ended(scope, context, seconds, time.time()))
        if len(self._ended) >= TOGETHER:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self.settle)

    def settle(self) -> None:
        """Count and log what has ended until now: also before the metrics are shown, and at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        logs = access.isEnabledFor(logging.INFO)
        for one in ended:
            self._count(one)
            if self._traced is not None:
                self._trace(one, self._traced)
            if logs:
                access.handle(_record(one))

    def _trace(self, ended: Ended, traced: Traced) -> None:
        try:
            traced(ended)
        # The edge of somebody else's code: no request, and no other's line, is lost for a trace.
        except Exception:  # noqa: BLE001
            errors.exception("no trace of it", extra={"request_id": ended.context.id})

    def _count(self, ended: Ended) -> None:
        context = ended.context
        self._metrics.observe(
            ended.route, context.model, context.status, context.error, ended.seconds, ended.ttft
        )
        if context.queued is not None:
            self._metrics.queued(context.model, context.queued)
        if (told := context.figures) is not None:
            self._metrics.spent(
                context.model,
                told.prompt,
                told.cached,
                told.generated,
                told.prompt_seconds,
                told.generation_seconds,
            )


def _record(ended: Ended) -> logging.LogRecord:
    """What `access.info` would have made then, without the search for the line of code that has called it."""
    record = logging.LogRecord(access.name, logging.INFO, "", 0, "request", (), None)
    record.created, record.msecs = ended.at, ended.at % 1 * 1000
    record.__dict__.update(_line(ended))
    return record


def _line(ended: Ended) -> dict[str, Any]:
    context, figures = ended.context, ended.context.figures
    return {
        "request_id": context.id,
        "method": ended.scope["method"],
        "route": ended.route,
        "model": context.model,
        "status": context.status,
        "error": context.error,
        "outcome": context.outcome,
        "ms": round(ended.seconds * 1000, 1),
        "ttft_ms": None if ended.ttft is None else round(ended.ttft * 1000, 1),
        "bytes": context.sent,
        "queue_ms": None if context.queued is None else round(context.queued * 1000, 1),
        "prompt_tokens": figures and figures.prompt,
        "cached_tokens": figures and figures.cached,
        "generated_tokens": figures and figures.generated,
    }
