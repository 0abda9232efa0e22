"""Start and end one llama-server router and everything it has started."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import StartupError
from corral.runtime.command import HOST

LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class RouterProcess:
    """A running router. It leads a process group that holds its instances."""

    child: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "RouterProcess":
        """Start `argv`, output appended to `log`; it dies with this process, kill -9 included."""
        mode = "exec" if sys.platform == "linux" else "watch"
        with log.open("ab") as output:
            try:
                child = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", str(LAUNCHER), mode, str(os.getpid()), *argv,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=dict(environment),
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise StartupError(f"cannot start {argv[0]}: {error}") from error
        return cls(child)

    async def ended(self) -> int:
        """Wait for the router to end; its exit status, negative for a signal."""
        return await self.child.wait()

    async def stop(self, grace: float) -> None:
        """End the router and its instances: SIGTERM, then SIGKILL after `grace` seconds."""
        if self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.child.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.child.wait(), grace)
        self.kill_group()
        await self.child.wait()

    def kill_group(self) -> None:
        """SIGKILL whatever is left of the group, instances of a dead router included."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)


def free_port() -> int:
    """A loopback port that nothing listens on now. Another program may still take it first: then
    llama-server ends at once and the supervisor tries the next one."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def rotate(log: Path, max_bytes: int) -> None:
    """Move `log` to `log.1` when it is over `max_bytes`. Only while nothing writes to it."""
    if log.exists() and log.stat().st_size > max_bytes:
        log.replace(log.with_name(log.name + ".1"))
