"""A llama-server of one's own: started, waited for, and gone with the program that started it.

Whoever uses it decides where it listens and how it is asked; this is the process.
"""

import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from corral.settings import child_environment

END_SECONDS = 5
POLL_SECONDS = 0.05


class LlamaProcess:
    """One llama-server, started at once; `close` ends it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        # A file and not a pipe: nobody reads while it runs, and a full pipe would stop it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=child_environment(environment or {}),
            preexec_fn=end_with_parent,
        )

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._child.poll()

    def wait(self, answers: Callable[[], bool], seconds: float) -> bool:
        """Until `answers` says so; False when it has ended first, or after so long."""
        deadline = time.monotonic() + seconds
        while self.status is None and time.monotonic() < deadline:
            if answers():
                return True
            time.sleep(POLL_SECONDS)
        return False

    def said(self) -> str:
        """All that it has printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self) -> None:
        """End it; does nothing the second time."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._log.close()


def end_with_parent() -> None:
    """In a child, before exec: die with the parent even when that is killed (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
