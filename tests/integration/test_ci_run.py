""".ci/run, over a fake make: it runs the checks, then whatever the README says."""

import shutil
import subprocess
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
    }.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "tools" / name).chmod(0o755)
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
    assert made == ["make check with CI=true", "make test with CI=true"]


def test_a_readme_whose_command_fails_is_red(folder: Path) -> None:
    assert run(folder, README.format(command="make broken")).returncode != 0


def test_a_readme_without_a_command_is_red(folder: Path) -> None:
    done = run(folder, "# x\n\n```bash\nmake test\n```\n")
    assert done.returncode != 0
    assert "README.md has no command" in done.stderr
