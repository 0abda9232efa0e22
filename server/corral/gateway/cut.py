"""Break off what one task does, when its client goes away or Corral stops, without a second task that waits."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from corral.errors import CorralError
from corral.gateway.outlet import Outlet


class Stopping(asyncio.Event):
    """Set when what runs must end. `told` are called in that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.told: set[Callable[[], None]] = set()

    def set(self) -> None:
        """Let everybody know."""
        super().set()
        for tell in tuple(self.told):
            tell()


class Cut:
    """A block that ends early when the client goes or Corral stops; `why` says which of them it was. What
    it would have raised then is of no interest. Look at both before: neither has yet happened."""

    def __init__(self, outlet: Outlet, stopping: Stopping) -> None:
        self._outlet, self._stopping = outlet, stopping
        self.why: Literal["", "client_gone", "stopped"] = ""

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._outlet.when_gone(self._gone)
        self._stopping.told.add(self._stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._outlet.when_gone(None)
        self._stopping.told.discard(self._stop)
        if not self.why:
            return False
        # As asyncio.timeout does it: somebody else may have cancelled the task too.
        alone = self._task.uncancel() <= self._cancelling
        return isinstance(error, CorralError) or (
            alone and isinstance(error, asyncio.CancelledError)
        )

    def _gone(self) -> None:
        self._cut("client_gone")

    def _stop(self) -> None:
        self._cut("stopped")

    def _cut(self, why: Literal["client_gone", "stopped"]) -> None:
        if not self.why:
            self.why = why
            self._task.cancel()
