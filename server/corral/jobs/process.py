"""Start and end a program through the keeper. Blocking; used by one thread."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from corral.errors import ToolError
from corral.jobs import keeper

# For the keeper to kill what it keeps and end; it needs milliseconds.
KEEPER_SECONDS = 5.0


@dataclass(frozen=True)
class Kept:
    """A running program that cannot outlive this process."""

    child: subprocess.Popen[bytes]
    mark: str

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes],
        *,
        mark: str = "",
        silence: float = 0,
        pass_fds: Sequence[int] = (),
        folder: Path | None = None,
    ) -> Self:
        """Start `argv`, its stdout and stderr going to `output`. `mark` is (NAME=VALUE) an entry of
        `environment`; with `silence` it is killed when `beat` is not called for so many seconds."""
        command = [sys.executable, "-I", "-S", keeper.__file__, mark or "-", str(silence), *argv]
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"cannot start {argv[0]}: {error}") from error
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        return cls(child, mark)

    def beat(self) -> None:
        """Tell the keeper that this process is well."""
        assert self.child.stdin is not None
        # Full when the keeper is stopped, broken when it has ended: neither is for this call to mend.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self.child.stdin.fileno(), b".")

    def terminate(self) -> None:
        """Ask the program and its group to end."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)

    def kill(self) -> int:
        """End it and everything it has started, now; the exit status."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        try:
            return self.child.wait(KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()
        finally:
            keeper.sweep(self.mark)

    def stop(self, grace: float) -> int:
        """SIGTERM, and `kill` after `grace` seconds; the exit status."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(grace)
        return self.kill()
