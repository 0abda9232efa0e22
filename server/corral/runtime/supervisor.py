"""Keep llama-server running: start, watch, restart with back-off, stop.

One task (`_run`) is the only writer of the state. Everyone else asks for the outcome with
`ensure_ready`, or reads `status` for a report.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral.errors import NotReady, StartupError, UpstreamError
from corral.log import trim
from corral.runtime.client import RouterClient
from corral.runtime.command import Endpoint, router_argv, router_environment
from corral.runtime.process import RouterProcess, free_port, rotate
from corral.settings import Settings, child_environment

logger = logging.getLogger("corral.runtime")

Phase = Literal["stopped", "starting", "ready", "restarting"]
FIRST_DELAY = 0.1
MAX_DELAY = 10.0
# A router that ran this long was sound: the next restart is quick again.
SOUND_AFTER = 30.0
POLL_SECONDS = 0.03
LOG_CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class Status:
    """What llama-server is doing, for reports. `detail` says why when it is not ready."""

    phase: Phase
    detail: str = ""
    restarts: int = 0


class Supervisor:
    """Owns the router process. `start` once, `stop` once."""

    def __init__(
        self,
        settings: Settings,
        presets_at_start: Callable[[], str],
        client: RouterClient,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._presets_at_start = presets_at_start
        self._client = client
        self._on_restart = on_restart
        self._status = Status("stopped")
        self._endpoint: Endpoint | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pid: int | None = None
        self._written = ""
        self._stopping = False

    @property
    def status(self) -> Status:
        """The present state; for reports only, it may change at any await."""
        return self._status

    @property
    def pid(self) -> int | None:
        """The router's process id while one runs."""
        return self._pid

    @property
    def log(self) -> Path:
        """llama-server's own output."""
        return self._settings.logs_dir / "llama-server.log"

    async def start(self) -> None:
        """Begin to supervise; returns at once, `ensure_ready` waits."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._empty_cache.mkdir(exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(self._run_dir)
        self.write_presets(self._presets_at_start())
        self._task = asyncio.create_task(self._run(), name="llama-server supervisor")

    async def stop(self) -> None:
        """End llama-server and all its instances within `stop_timeout`."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._presets_file.unlink(missing_ok=True)

    @property
    def presets(self) -> str:
        """The text of the preset file."""
        return self._written

    def write_presets(self, text: str) -> None:
        """Replace the preset file, in one step: the router may be reading it."""
        part = self._presets_file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._presets_file)
        self._written = text

    async def ensure_ready(self, timeout: float) -> Endpoint:
        """The endpoint of a running router; waits up to `timeout` seconds for a start or restart.

        Raises NotReady, saying what is awaited.
        """
        if not self._ready.is_set():
            try:
                # Not wait_for: that of Python 3.11 loses a cancellation that comes with the event.
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
            except TimeoutError:
                raise self._not_ready() from None
        if self._endpoint is None:
            raise self._not_ready()
        return self._endpoint

    async def verify(self, timeout: float) -> None:
        """Return when the router answers, or when its end has been noticed; at most `timeout` s."""
        endpoint = self._endpoint
        if endpoint is None or await self._client.healthy(endpoint):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._endpoint is endpoint:
                    await asyncio.sleep(POLL_SECONDS)

    def _not_ready(self) -> NotReady:
        detail = f": {self._status.detail}" if self._status.detail else ""
        return NotReady(
            f"llama-server is {self._status.phase}{detail}; its output is in {self.log}",
            headers={"Retry-After": "2"},
        )

    @property
    def _run_dir(self) -> Path:
        return self._settings.data_dir / "run"

    @property
    def _empty_cache(self) -> Path:
        return self._run_dir / "no-cache"

    @property
    def _presets_file(self) -> Path:
        return self._run_dir / f"presets-{os.getpid()}.ini"

    def _become(self, status: Status, endpoint: Endpoint | None = None) -> None:
        """The one place where the state changes."""
        self._status = status
        self._endpoint = endpoint
        if endpoint is None:
            self._ready.clear()
        else:
            self._ready.set()
        fields = {"phase": status.phase, "detail": status.detail, "restarts": status.restarts}
        logger.info("llama-server is %s", status.phase, extra=fields)

    async def _run(self) -> None:
        delay, restarts = FIRST_DELAY, 0
        try:
            while True:
                began = time.monotonic()
                reason = await self._run_guarded(restarts)
                if time.monotonic() - began > SOUND_AFTER:
                    delay = FIRST_DELAY
                restarts += 1
                self._on_restart()
                self._become(Status("restarting", reason, restarts))
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_DELAY)
        finally:
            self._become(Status("stopped", restarts=restarts))

    async def _run_guarded(self, restarts: int) -> str:
        """`_run_once`; whatever goes wrong in it is one more reason to start again. A supervisor
        that ended by itself would leave a gateway that waits for ever."""
        try:
            return await self._run_once(restarts)
        except asyncio.CancelledError:
            if self._stopping:
                raise
            logger.exception("the supervisor was interrupted")
            return "its supervisor was interrupted"
        # The edge of the task that owns the process.
        except Exception as error:
            logger.exception("the supervisor failed")
            return f"its supervisor failed: {error}"

    async def _run_once(self, restarts: int) -> str:
        """Start a router and stay until it ends; why it ended."""
        endpoint = Endpoint(free_port(), secrets.token_urlsafe(32))
        if self._status.phase != "restarting":
            self._become(Status("starting", restarts=restarts))
        rotate(self.log, self._settings.llama_log_max_bytes)
        self.write_presets(self._presets_at_start())
        try:
            process = await RouterProcess.start(
                router_argv(self._settings, self._presets_file, endpoint.port),
                child_environment(router_environment(endpoint, self._empty_cache)),
                self.log,
            )
        except StartupError as error:
            return error.message
        self._pid = process.child.pid
        try:
            return await self._watch(process, endpoint, restarts)
        finally:
            self._pid = None
            await asyncio.shield(process.stop(self._settings.stop_timeout / 2))

    async def _watch(self, process: RouterProcess, endpoint: Endpoint, restarts: int) -> str:
        ended = asyncio.create_task(process.ended())
        try:
            if await self._answers(endpoint, ended):
                self._become(Status("ready", restarts=restarts), endpoint)
            while not ended.done():
                await asyncio.wait({ended}, timeout=LOG_CHECK_SECONDS)
                trim(self.log, self._settings.llama_log_max_bytes)
            return f"it ended with status {ended.result()}"
        finally:
            ended.cancel()

    async def _answers(self, endpoint: Endpoint, ended: asyncio.Task[int]) -> bool:
        """Wait until the router answers; False when it ended first."""
        while not ended.done():
            if await self._client.healthy(endpoint):
                return True
            await asyncio.wait({ended}, timeout=POLL_SECONDS)
        return False

    async def sections(self) -> dict[str, tuple[str, int | None]]:
        """Each section's status (`failed` included) and exit status; empty while not ready."""
        if self._endpoint is None:
            return {}
        try:
            instances = await self._client.instances(self._endpoint)
        except UpstreamError:
            return {}
        return {
            item.section: ("failed" if item.failed else item.status, item.exit_code)
            for item in instances
        }


def _remove_stale(run_dir: Path) -> None:
    """Delete the preset files of Corrals that were killed."""
    for path in run_dir.glob("presets-*.ini"):
        pid = path.stem.removeprefix("presets-")
        if not (pid.isdigit() and _exists(int(pid))):
            path.unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
