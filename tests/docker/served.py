"""`make serve` from the images, in a process group of its own."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from docker.client import DockerClient
from docker.models.containers import Container
from openai import OpenAI

PROJECT = "corral-test"


class Served:
    """`make serve RUNTIME=docker` in the clean tree."""

    def __init__(self, tree: Path, port: int, log: Path) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.log = log
        self.tree = tree
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                ["make", "serve", "RUNTIME=docker", f"PORT={port}"],
                cwd=tree,
                env={**kept, "COMPOSE_PROJECT_NAME": PROJECT},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def said(self) -> str:
        """All that both containers have said."""
        return self.log.read_text(errors="replace")

    def is_ready(self) -> bool:
        """Whether the gateway has said that it serves; fails when the command has ended."""
        assert self.child.poll() is None, f"make serve ended:\n{self.said()}"
        return f"Corral serves {self.root}/v1" in self.said()

    def client(self) -> OpenAI:
        """The SDK over the published port; use it in a `with` block."""
        return OpenAI(base_url=self.root + "/v1", api_key="any", max_retries=0)

    def stop(self) -> float:
        """Ctrl-C, as a terminal sends it to the whole group; the seconds to the end."""
        began = time.monotonic()
        os.killpg(self.child.pid, signal.SIGINT)
        self.child.wait(60)
        return time.monotonic() - began

    def remove(self) -> None:
        """Kill what still runs, and remove the containers and their volume."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        argv = [*program(), "-p", PROJECT, "-f", "docker/compose.yaml", "down", "--volumes"]
        subprocess.run(argv, cwd=self.tree, capture_output=True, check=True)


def containers(engine: DockerClient) -> dict[str, Container]:
    """What runs of the project, by the service's name."""
    labels = {"label": f"com.docker.compose.project={PROJECT}"}
    found: list[Container] = engine.containers.list(filters=labels)
    return {one.labels["com.docker.compose.service"]: one for one in found}


def program() -> list[str]:
    """Compose 2 where the client has it, else 1.29, as scripts/serve.sh chooses."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]
