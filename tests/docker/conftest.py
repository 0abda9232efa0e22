"""The images, built once from a clean copy of this tree, and containers that leave nothing behind.

Nothing here is skipped: no engine, or a build that fails, fails every test with what to do.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker.errors import DockerException, ImageNotFound

from tests.docker.container import START_SECONDS, Corral, free_port, wait_for
from tests.docker.served import Served

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 5400


@dataclass(frozen=True)
class Build:
    """What `make build-cpu` made, and the clean tree in which it ran."""

    tree: Path
    base: str
    corral: str = "corral:cpu"
    trainer: str = "corral-trainer:cpu"


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine's API."""
    try:
        client = DockerClient.from_env()
        client.ping()
    except DockerException as error:
        pytest.fail(f"no container engine: {error}. `sudo systemctl start docker` starts it")
    yield client
    client.close()


@pytest.fixture(scope="session")
def build(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Both images for the processor, by the command that a user types."""
    tree = tmp_path_factory.mktemp("clean")
    copy_tree(tree)
    base = base_of(tree / "docker" / "Dockerfile")
    need_base(engine, base)
    run_in(tree, "make", "build-cpu")
    return Build(tree, base)


@pytest.fixture
def start(engine: DockerClient, build: Build, volume: str) -> Iterator[Callable[..., Corral]]:
    """Start a `corral` container as locked up as compose.yaml does; its end removes it.

    The volume is made before, whether used or not, and so removed after.
    """
    started: list[Corral] = []

    def start_one(*command: str, image: str = build.corral, **options: object) -> Corral:
        started.append(Corral(engine, image, free_port(), command, options))
        return started[-1]

    yield start_one
    for corral in started:
        corral.remove()


@pytest.fixture
def volume(engine: DockerClient) -> Iterator[str]:
    """The name of an empty volume."""
    made = engine.volumes.create()
    yield str(made.name)
    made.remove(force=True)


@pytest.fixture
def served(build: Build, tmp_path: Path) -> Iterator[Served]:
    """The gateway and a worker, started by `make serve` over a volume of their own."""
    served = Served(build.tree, free_port(), tmp_path / "serve.log")
    try:
        wait_for("the gateway's banner", START_SECONDS, served.is_ready)
        yield served
    finally:
        served.remove()


def copy_tree(into: Path) -> None:
    """What git has or would take, and nothing else."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)


def base_of(dockerfile: Path) -> str:
    (line,) = (x for x in dockerfile.read_text().splitlines() if x.startswith("ARG BASE="))
    return line.removeprefix("ARG BASE=")


def need_base(engine: DockerClient, base: str) -> None:
    """The base image: there already, from a registry, or made here."""
    try:
        engine.images.get(base)
    except ImageNotFound:
        try:
            engine.images.pull(base)
        except DockerException:
            run_in(ROOT, "scripts/docker_base.sh")


def run_in(folder: Path, *argv: str) -> None:
    """Run a command to its good end; else fail with the end of what it said."""
    done = subprocess.run(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, f"{' '.join(argv)} failed:\n{done.stdout[-4000:]}"
