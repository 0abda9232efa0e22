"""`make serve` from the images: Compose starts the gateway and a worker over one volume."""

import os
import subprocess

import pytest
from docker.client import DockerClient

from tests.docker.conftest import Build
from tests.docker.served import Served, containers, program

STOP_SECONDS = 10


def test_make_serve_starts_both_and_ends_in_order(engine: DockerClient, served: Served) -> None:
    running = containers(engine)
    assert set(running) == {"corral", "trainer"}
    for container in running.values():
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert container.attrs["RestartCount"] == 0, container.logs().decode()
    assert running["trainer"].attrs["NetworkSettings"]["Ports"] in ({}, {"8000/tcp": None})
    took = served.stop()
    assert took < STOP_SECONDS, served.said()
    assert containers(engine) == {}


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
