"""Run a program that leaves no process behind, however the one that asked for it ends.

    python -I -S keeper.py MARK SILENCE PROGRAM [ARGUMENT…]

The owner starts this in a new session with a pipe as stdin. PROGRAM gets a process group of its
own, the descriptors that the owner passed, and no stdin. Each byte on stdin says that the owner is
well. SIGTERM is passed on to the group. When stdin closes (the owner has ended, kill -9 included),
or SILENCE seconds pass without a byte (0: no limit; the owner is frozen and may have lost its
lease), the whole group is killed; so is what PROGRAM leaves running when it ends. MARK is a
`NAME=VALUE` of the environment (`-` for none): on Linux every process that carries it is killed as
well, those that left the group included.

Exit status: PROGRAM's; 128 + n when signal n ended it; 79 when the owner was lost; 127 when it
could not be started. If this program itself is killed, PROGRAM is killed by the kernel (Linux), and
`sweep` by the owner, or by the next one, finds the rest. Does not cover: on other systems,
processes that left the group, and a kill -9 of this program. Standard library only.
"""

import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
OWNER_LOST, CANNOT_START = 79, 127
REAP_SECONDS = 1.0
SWEEPS = 50  # a process may fork while the list is read: look again, but not for ever


def main() -> int:
    """Keep the program named by the arguments until it ends."""
    mark, silence, argv = sys.argv[1].strip("-"), float(sys.argv[2]), sys.argv[3:]
    early: list[int] = []
    lost = threading.Event()
    # What PROGRAM leaves behind becomes a child of this process and is reaped here: in a container
    # nobody else may do so.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda number, _: early.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # close_fds: what the owner passed is inheritable, nothing else is.
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, close_fds=False, process_group=0,
            preexec_fn=functools.partial(_prepare, os.getpid()),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        print(f"error: cannot start {argv[0]}: {error}", file=sys.stderr)
        return CANNOT_START
    signal.signal(signal.SIGTERM, lambda *_: _signal_group(child.pid, signal.SIGTERM))
    if early:
        _signal_group(child.pid, signal.SIGTERM)
    owner = functools.partial(_watch_owner, child.pid, silence, mark, lost)
    threading.Thread(target=owner, daemon=True).start()
    if hasattr(os, "waitid"):  # macOS has it from Python 3.13 on
        # Not reaped yet: while the zombie is there, its group's number cannot become another's.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    else:
        child.wait()
    _kill_all(child.pid, mark)
    status = child.wait()
    _reap()
    if lost.is_set():
        return OWNER_LOST
    return 128 - status if status < 0 else status


def sweep(mark: str) -> None:
    """SIGKILL every other process whose environment holds `mark` (Linux; elsewhere nothing)."""
    wanted = os.fsencode(mark)
    for _ in range(SWEEPS if mark else 0):
        found = [pid for pid in _marked(wanted) if pid != os.getpid()]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)


def _prepare(keeper: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The keeper may have been killed before the request above reached the kernel.
    if os.getppid() != keeper:
        os._exit(OWNER_LOST)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes  # not at the top: there may be no libc to load by name elsewhere

        ctypes.CDLL(None, use_errno=True).prctl(option, value)


def _reap() -> None:
    """Take the exit statuses of what was killed; some are still on their way."""
    end = time.monotonic() + REAP_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


def _watch_owner(child: int, silence: float, mark: str, lost: threading.Event) -> None:
    while True:
        ready, _, _ = select.select([0], [], [], silence or None)
        if not ready or not os.read(0, 4096):
            break
    lost.set()
    _kill_all(child, mark)
    _reap()
    os._exit(OWNER_LOST)


def _kill_all(group: int, mark: str) -> None:
    _signal_group(group, signal.SIGKILL)
    sweep(mark)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _marked(mark: bytes) -> Iterator[int]:
    if sys.platform != "linux":
        return
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
            if mark in environment.read().split(b"\0"):
                yield int(name)


if __name__ == "__main__":
    sys.exit(main())
