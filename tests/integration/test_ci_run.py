""".ci/run, over a fake make: the checks, then whatever the README says, then the images."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = "# x\n\n```bash\nmake serve\n```\n\n```bash test\n{command}\n```\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for name, body in {
        "make": 'echo "make $* with CI=$CI"; [ "$1" != broken ]',
        "dpkg-query": "printf 'install ok installed'",
        "docker": "[ -e engine ]",
        "dockerd": 'echo "dockerd ran" >>ran; [ -e able ] || { echo "no rights"; exit 1; }; '
        "touch engine; exec sleep 600",
        "id": "cat user",
    }.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    (tmp_path / "user").write_text("0")
    (tmp_path / "engine").touch()
    return tmp_path


def run(folder: Path, readme: str) -> subprocess.CompletedProcess[str]:
    (folder / "README.md").write_text(readme)
    path = f"{folder / 'tools'}:/usr/bin:/bin"
    return subprocess.run(
        [str(folder / ".ci" / "run")], env={"PATH": path}, capture_output=True, text=True
    )


def test_it_checks_and_then_runs_what_the_readme_says(folder: Path) -> None:
    done = run(folder, README.format(command="make test"))
    assert done.returncode == 0, done.stderr
    made = [line for line in done.stdout.splitlines() if line.startswith("make ")]
    assert made == [f"make {what} with CI=true" for what in ("check", "test", "test-docker")]
    assert not (folder / "ran").exists()


def test_a_readme_whose_command_fails_is_red(folder: Path) -> None:
    assert run(folder, README.format(command="make broken")).returncode != 0


def test_a_readme_without_a_command_is_red(folder: Path) -> None:
    done = run(folder, "# x\n\n```bash\nmake test\n```\n")
    assert done.returncode != 0
    assert "README.md has no command" in done.stderr


def test_where_no_engine_answers_it_starts_one_and_ends_it(folder: Path) -> None:
    (folder / "engine").unlink()
    (folder / "able").touch()
    start = time.monotonic()
    done = run(folder, README.format(command="make test"))
    assert done.returncode == 0, done.stderr
    assert "make test-docker with CI=true" in done.stdout
    # The fake engine would live for ten minutes.
    assert time.monotonic() - start < 300


@pytest.mark.parametrize(
    ("user", "says"),
    [("0", "dockerd does not start here"), ("1000", "sudo systemctl start docker")],
)
def test_without_an_engine_it_is_red_and_says_so(folder: Path, user: str, says: str) -> None:
    (folder / "engine").unlink()
    (folder / "user").write_text(user)
    done = run(folder, README.format(command="make test"))
    assert done.returncode != 0
    assert "make test-docker" not in done.stdout.replace("== make test-docker", "")
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "no container engine answers" in error
    assert says in error
    assert ("no rights" in done.stderr) == (user == "0")
