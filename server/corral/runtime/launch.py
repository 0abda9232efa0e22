"""Run a program that cannot outlive the process that started it, even one that is killed -9.

    python -I -S launch.py exec|watch PARENT_PID PROGRAM [ARGUMENT…]

`exec` (Linux): asks the kernel for SIGKILL when the parent ends, then becomes PROGRAM (same pid).
`watch` (anywhere): stays, passes SIGTERM on, and kills its process group when its stdin closes,
which happens when the parent ends in any way. The parent must start it in a new session with a
pipe as stdin. Standard library only: it runs with no site-packages.

Covered: the program itself. Its children are its own business (llama-server's instances end when
their stdin closes).
"""

import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
ORPHANED = 79


def main() -> int:
    """Run the program named by the arguments; `exec` does not return."""
    mode, parent, argv = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    return _become(parent, argv) if mode == "exec" else _watch(argv)


def _become(parent: int, argv: list[str]) -> int:
    import ctypes  # not at the top: `watch` must work where there is no libc to load by name

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have ended before the request above reached the kernel.
    if os.getppid() != parent:
        return ORPHANED
    os.execv(argv[0], argv)


def _watch(argv: list[str]) -> int:
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_kill_group_at_eof, daemon=True).start()
    return child.wait()


def _kill_group_at_eof() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
