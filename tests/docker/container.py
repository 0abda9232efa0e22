"""One container of an image, as locked up as docker/compose.yaml: read-only, no capabilities."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from docker.client import DockerClient
from docker.models.containers import Container
from openai import OpenAI

START_SECONDS = 90
# Twice the health check's interval.
HEALTHY_SECONDS = 20
# Kills every llama-server in the container; the image has no `pkill`.
KILL = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        program = open(f"/proc/{pid}/cmdline").read().split("\\0")[0]
    except OSError:
        continue
    if program.endswith("/llama-server"):
        os.kill(int(pid), signal.SIGKILL)
        print(pid)
"""

T = TypeVar("T")


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, seconds: float, found: Callable[[], T | None]) -> T:
    """The first true value of `found`; fails saying what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        if value := found():
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def output(engine: DockerClient, image: str, *argv: str, **options: Any) -> str:
    """The stdout of a container that ends well; nothing of it is left, its volume included."""
    container: Container = engine.containers.run(image, list(argv), detach=True, **options)
    try:
        status = container.wait()["StatusCode"]
        assert status == 0, container.logs().decode(errors="replace")
        return str(container.logs(stderr=False).decode())
    finally:
        container.remove(force=True, v=True)


class Corral:
    """A started container and its published port."""

    def __init__(
        self,
        engine: DockerClient,
        image: str,
        port: int,
        command: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        self.root = f"http://127.0.0.1:{port}"
        given = {
            "environment": {"CORRAL_PUBLISHED": f"127.0.0.1:{port}"},
            "ports": {"8000/tcp": ("127.0.0.1", port)},
            "read_only": True,
            "tmpfs": {"/tmp": ""},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            **options,
        }
        self.container: Container = engine.containers.run(
            image, list(command) or None, detach=True, **given
        )

    def remove(self) -> None:
        """Kill it, and with it the volume that was made for it."""
        self.container.remove(force=True, v=True)

    def logs(self) -> str:
        """Everything it has said."""
        return str(self.container.logs().decode(errors="replace"))

    def ended(self, seconds: float = 30) -> int:
        """Its exit status, once it has ended by itself."""
        return int(self.container.wait(timeout=seconds)["StatusCode"])

    def run(self, *argv: str, user: str = "") -> str:
        """Run a program inside to its good end; what it said."""
        status, said = self.container.exec_run(list(argv), user=user)
        text: str = said.decode(errors="replace")
        assert status == 0, f"{argv} inside ended with {status}: {text}"
        return text

    def health(self) -> str:
        """What the engine thinks: starting, healthy or unhealthy."""
        self.container.reload()
        return str(self.container.attrs["State"]["Health"]["Status"])

    def ready(self, key: str = "") -> "Corral":
        """Wait until it can serve; itself."""

        def answers() -> bool:
            self.container.reload()
            assert self.container.status == "running", f"it ended and said:\n{self.logs()}"
            return self.get("/ready", key)[0] == 200

        wait_for("/ready of the container", START_SECONDS, answers)
        return self

    def get(self, path: str, key: str = "") -> tuple[int, Any]:
        """Status and JSON (else text) of a GET through the published port; 0 when nothing listens."""
        request = urllib.request.Request(self.root + path)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read()
        except OSError:
            return 0, ""
        text = raw.decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def client(self, key: str = "any") -> OpenAI:
        """The SDK over the published port; close it, or use it in a `with` block."""
        return OpenAI(base_url=self.root + "/v1", api_key=key, max_retries=0)

    def kill_llama_servers(self) -> int:
        """kill -9 for each llama-server inside; how many there were."""
        return len(self.run("python3", "-c", KILL).split())
