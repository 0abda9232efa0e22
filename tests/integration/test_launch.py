"""The launcher: what it starts cannot outlive whoever asked for it, on any system."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corral.runtime.process import LAUNCHER
from tests.fakes.served import family, is_alive, wait_for

MODES = ["watch", *(["exec"] if sys.platform == "linux" else [])]
# Starts the launcher as the supervisor does, prints its pid, and waits to be killed.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-I", "-S", *sys.argv[1:3], str(os.getpid()), *sys.argv[3:]],
    stdin=subprocess.PIPE, start_new_session=True,
)
print(child.pid, flush=True)
time.sleep(60)
"""


def start(mode: str, *program: str) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", PARENT, str(LAUNCHER), mode, *program]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("mode", MODES)
def test_kill_9_of_the_parent_ends_the_program(mode: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    parent, launched = start(mode, "/bin/sh", "-c", f"touch {begun}; exec sleep 60")
    wait_for(begun.exists, "the program runs")
    processes = [launched, *family(launched)]
    parent.kill()
    parent.communicate()
    wait_for(lambda: not any(map(is_alive, processes)), "the program has ended", 5)


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_and_the_exit_status_pass_through(mode: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"trap 'exit 7' TERM; touch {begun}; while :; do sleep 0.05; done"
    child = subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            mode,
            str(os.getpid()),
            "/bin/sh",
            "-c",
            script,
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(begun.exists, "the program runs")
    child.send_signal(signal.SIGTERM)
    # Not communicate(): it would close stdin, which means that the parent has gone.
    assert child.wait(10) == 7
    assert child.stdin is not None
    child.stdin.close()


@pytest.mark.skipif("exec" not in MODES, reason="the kernel's parent-death signal is Linux's")
def test_a_parent_that_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(LAUNCHER), "exec", "1", "/bin/sh", "-c", "exit 0"]
    assert subprocess.run(argv, timeout=10).returncode == 79
