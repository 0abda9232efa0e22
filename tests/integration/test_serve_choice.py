"""scripts/serve.sh chooses between the images and the native build; engine, make and corral are fakes."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Answers as an engine that has one image; FAKE_… variables say which, and with which label.
FAKE_DOCKER = """
case "$*" in
  version) [ -z "${FAKE_NO_ENGINE:-}" ] ;;
  'compose version') exit 0 ;;
  'image inspect '*)
    [ "corral:$FAKE_IMAGE" = "${*: -1}" ] || exit 1
    echo "$FAKE_LABEL" ;;
  info*) echo "${FAKE_RUNTIMES:-{}}" ;;
  compose*) echo "docker $*, BACKEND=$BACKEND HOST=$HOST PORT=$PORT" ;;
  *) exit 9 ;;
esac
"""
Serve = Callable[..., subprocess.CompletedProcess[str]]


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone with the two scripts and fakes for what they start."""
    tree = tmp_path / "clone"
    (tree / "scripts").mkdir(parents=True)
    for name in ("serve.sh", "build_image.sh"):
        shutil.copy(ROOT / "scripts" / name, tree / "scripts")
    for name in ("server", "models", "docker", "requirements"):
        (tree / name).mkdir()
        (tree / name / "file").write_text(name)
    program(tmp_path / "bin" / "docker", FAKE_DOCKER)
    program(tmp_path / "bin" / "make", 'echo "make $*"')
    program(tree / ".venv" / "bin" / "corral", 'echo "corral $*"')
    return tree


@pytest.fixture
def serve(tree: Path, tmp_path: Path) -> Serve:
    """Run serve.sh there."""

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C", **variables}
        return subprocess.run(
            [tree / "scripts" / "serve.sh"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def fingerprint(tree: Path) -> str:
    argv = [str(tree / "scripts" / "build_image.sh"), "--tree"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def built(tree: Path, backend: str) -> dict[str, str]:
    """As `make build-<backend>` leaves things; what the fake engine needs to know of it."""
    (tree / "build" / "images").mkdir(parents=True)
    (tree / "build" / "images" / "current").write_text(f"{backend}\n")
    return {"FAKE_IMAGE": backend, "FAKE_LABEL": fingerprint(tree)}


NATIVE = "corral serve --host 127.0.0.1 --port 8000"


def test_without_images_it_serves_natively(serve: Serve) -> None:
    done = serve()
    assert done.stdout.splitlines() == ["make --no-print-directory build BACKEND=", NATIVE]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fresh_image_serves(serve: Serve, tree: Path) -> None:
    done = serve(PORT="9000", **built(tree, "cpu"))
    started = "docker compose -p corral -f docker/compose.yaml up"
    assert done.stdout == f"{started}, BACKEND=cpu HOST=127.0.0.1 PORT=9000\n"
    assert "serving from corral:cpu on http://127.0.0.1:9000" in done.stderr


def test_a_stale_image_is_named_and_the_native_build_serves(serve: Serve, tree: Path) -> None:
    given = built(tree, "cuda")
    (tree / "server" / "file").write_text("changed")
    done = serve(**given)
    assert done.stdout.splitlines()[-1] == NATIVE
    assert "the image corral:cuda is stale" in done.stderr
    assert "make build-cuda builds it anew" in done.stderr


def test_without_an_engine_the_native_build_serves(serve: Serve, tree: Path) -> None:
    done = serve(FAKE_NO_ENGINE="1", **built(tree, "cpu"))
    assert done.stdout.splitlines()[-1] == NATIVE
    (line,) = done.stderr.splitlines()
    assert "no container engine answers to 'docker'" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"FAKE_NO_ENGINE": "1"}, "no container engine answers"),
        ({"FAKE_LABEL": "another"}, "the image corral:cpu is stale"),
        ({"FAKE_IMAGE": "cuda"}, "there is no image corral:cpu; make build-cpu builds it"),
    ],
)
def test_docker_can_be_forced_and_then_says_what_is_missing(
    serve: Serve, tree: Path, change: dict[str, str], message: str
) -> None:
    done = serve(**{**built(tree, "cpu"), "RUNTIME": "docker", **change})
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "make serve RUNTIME=native" in done.stderr


def test_native_can_be_forced(serve: Serve, tree: Path) -> None:
    done = serve(RUNTIME="native", BACKEND="vulkan", **built(tree, "cpu"))
    assert done.stdout.splitlines() == ["make --no-print-directory build BACKEND=vulkan", NATIVE]


def test_the_cuda_image_gets_the_gpus_where_containers_can(serve: Serve, tree: Path) -> None:
    given = built(tree, "cuda")
    assert "-f docker/compose.cuda.yaml" in serve(FAKE_RUNTIMES='{"nvidia":{}}', **given).stdout
    without = serve(**given)
    assert "compose.cuda.yaml" not in without.stdout
    assert "no GPU for containers" in without.stderr


def test_keys_add_their_file(serve: Serve, tree: Path) -> None:
    done = serve(KEYS="/etc/corral/keys", HOST="0.0.0.0", **built(tree, "cpu"))
    assert "-f docker/compose.keys.yaml" in done.stdout
    assert "HOST=0.0.0.0" in done.stdout


def test_what_does_not_go_into_an_image_does_not_make_it_stale(serve: Serve, tree: Path) -> None:
    given = built(tree, "cpu")
    for name in ("docker/compose.yaml", "docs.md", "docker/wheels/torch.whl"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("new")
    assert serve(**given).stdout.startswith("docker compose")
