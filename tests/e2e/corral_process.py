"""One `corral serve` as a child process, started through its command line as a person would.

Knows which llama-server processes belong to it, so that a test can kill one, and can see that none
is left. Nothing here imports Corral: what is tested is the program.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

# Of Corral's own variables only these pass, to test another build or other weights.
PASSED_ON = ("CORRAL_LLAMA_BIN_DIR", "CORRAL_BUNDLED_MODELS_DIR")
DROPPED = ("CORRAL_", "LLAMA_", "OPENAI_", "HF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# Read as this module is imported: tests/conftest.py empties the environment for each test.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name in PASSED_ON or not name.upper().startswith(DROPPED)
}
BANNER = re.compile(r"Corral serves (http://[^ ]+)/v1 ")
START_SECONDS = 60
STOP_SECONDS = 10

T = TypeVar("T")


def child_environment(**extra: str) -> dict[str, str]:
    """The environment without what would lead a client or a server elsewhere, and `extra`."""
    return {**ENVIRONMENT, **extra}


def wait_for(what: str, seconds: float, found: Callable[[], T]) -> T:
    """The first true value of `found`; fails saying what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        if value := found():
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


class CorralProcess:
    """A running Corral. Use as a context manager: whatever happens, nothing stays behind."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "corral.log"
        self._arguments = arguments
        self._python = python
        self._environment = child_environment(**(environment or {}))
        self._groups: set[int] = set()
        self._url = ""
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        argv = [*corral_argv("serve", "--port", "0", "--data-dir", str(self.data_dir))]
        if self._python:  # another environment that has Corral as well
            argv[:1] = [str(self._python), "-m", "corral"]
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [*argv, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        try:
            self._url = wait_for("corral serve announces its address", START_SECONDS, self._banner)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.llama_servers()
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    @property
    def child(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, "use it in a `with` block"
        return self._child

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self._url

    @property
    def url(self) -> str:
        """The base URL for an SDK."""
        return self._url + "/v1"

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> float:
        """Send `how`, wait for the end; the seconds that it took."""
        self.llama_servers()
        began = time.monotonic()
        self.child.send_signal(how)
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Corral outlives {how.name} by {seconds:g} s") from None
        return time.monotonic() - began

    def routers(self) -> list[int]:
        """Process ids of the llama-server that Corral has started itself."""
        own = str(self.data_dir)
        found = [pid for pid, _, argv in processes() if "llama-server" in argv and own in argv]
        self._groups |= {group for pid, group, _ in processes() if pid in found}
        return found

    def instances(self) -> list[int]:
        """Process ids of the llama-servers that the routers have started, one per loaded model."""
        routers = set(self.routers())
        return [pid for pid in self.llama_servers() if pid not in routers]

    def llama_servers(self) -> list[int]:
        """Every llama-server that this Corral has ever been seen to have and that still runs."""
        self.routers()
        return [
            pid
            for pid, group, argv in processes()
            if group in self._groups and "llama-server" in argv
        ]

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON (else text) of a GET."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        text = raw.decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        _, text = self.get("/metrics")
        values = re.findall(rf"^{name} ([0-9.e+-]+)$", text, re.MULTILINE)
        assert len(values) == 1, f"/metrics holds {len(values)} plain values of {name}"
        return float(values[0])

    def _banner(self) -> str:
        said = self.log.read_text(errors="replace")
        status = self.child.poll()
        assert status is None, f"corral serve ended with status {status} and said:\n{said}"
        match = BANNER.search(said)
        return match[1] if match else ""


def corral_argv(*arguments: str) -> Sequence[str]:
    """The `corral` of this environment."""
    program = Path(sys.executable).with_name("corral")
    assert program.is_file(), f"{program} is missing; `make setup` installs it"
    return [str(program), *arguments]


def processes() -> list[tuple[int, int, str]]:
    """Process id, process group and command line of everything that runs (zombies left out)."""
    shown = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,pgid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(None, 3) for line in shown.stdout.splitlines()]
    return [
        (int(row[0]), int(row[1]), row[3])
        for row in rows
        if len(row) == 4 and not row[2].startswith("Z")
    ]
