"""`make serve` from the images: Compose starts the gateway and a worker over one volume."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.client import DockerClient

from tests.docker.conftest import Build
from tests.docker.container import START_SECONDS, free_port, wait_for

PROJECT = "corral-test"
STOP_SECONDS = 10


class Served:
    """`make serve RUNTIME=docker` in the clean tree, in a process group of its own."""

    def __init__(self, tree: Path, port: int, volume: str, log: Path) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        environment = {**kept, "COMPOSE_PROJECT_NAME": PROJECT, "VOLUME": volume}
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                ["make", "serve", "RUNTIME=docker", f"PORT={port}"],
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.child.poll() is None, f"make serve ended:\n{self.said()}"
        return f"Corral serves {self.root}/v1" in self.said()

    def stop(self) -> float:
        """Ctrl-C, as a terminal sends it to the whole group; the seconds to the end."""
        began = time.monotonic()
        os.killpg(self.child.pid, signal.SIGINT)
        self.child.wait(60)
        return time.monotonic() - began


@pytest.fixture
def served(build: Build, tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    tmp_path.chmod(0o755)
    served = Served(build.tree, free_port(), str(folder), tmp_path / "serve.log")
    yield served
    with contextlib.suppress(ProcessLookupError):
        os.killpg(served.child.pid, signal.SIGKILL)
    down(build)


def down(build: Build) -> None:
    argv = [*program(), "-p", PROJECT, "-f", "docker/compose.yaml", "down", "--volumes"]
    subprocess.run(argv, cwd=build.tree, capture_output=True, check=True)


def program() -> list[str]:
    """Compose 2 where the client has it, else 1.29."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def test_make_serve_starts_both_and_ends_in_order(engine: DockerClient, served: Served) -> None:
    wait_for("the gateway's banner", START_SECONDS, served.is_ready)
    labels = {"label": f"com.docker.compose.project={PROJECT}"}
    running = {
        c.labels["com.docker.compose.service"]: c for c in engine.containers.list(filters=labels)
    }
    assert set(running) == {"corral", "trainer"}
    for container in running.values():
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert container.attrs["RestartCount"] == 0, container.logs().decode()
    (trainer,) = (c for name, c in running.items() if name == "trainer")
    assert trainer.attrs["NetworkSettings"]["Ports"] in ({}, {"8000/tcp": None})
    took = served.stop()
    assert took < STOP_SECONDS, served.said()
    assert engine.containers.list(filters=labels) == []


@pytest.mark.parametrize("extra", ["", "compose.cuda.yaml", "compose.keys.yaml"])
def test_compose_understands_its_files(build: Build, extra: str) -> None:
    files = ["-f", "docker/compose.yaml", *(["-f", f"docker/{extra}"] if extra else [])]
    environment = {**os.environ, "KEYS": "/dev/null", "HOST": "127.0.0.2", "PORT": "9001"}
    done = subprocess.run(
        [*program(), *files, "config"],
        cwd=build.tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "CORRAL_PUBLISHED: 127.0.0.2:9001" in done.stdout
    assert ("nvidia" in done.stdout) == (extra == "compose.cuda.yaml")
    assert ("/run/secrets/api_keys" in done.stdout) == (extra == "compose.keys.yaml")


def test_a_changed_tree_makes_the_image_stale(build: Build) -> None:
    page = build.tree / "server" / "corral" / "added_later.py"
    page.touch()
    try:
        done = subprocess.run(
            ["make", "serve", "RUNTIME=docker"], cwd=build.tree, capture_output=True, text=True
        )
    finally:
        page.unlink()
    assert done.returncode != 0
    assert "error: the image corral:cpu is stale" in done.stderr
    assert "make build-cpu builds it anew" in done.stderr
