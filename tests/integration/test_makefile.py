"""The Makefile's own messages, run for real in a folder of its own: no network, no environment made."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "serve.sh", tmp_path / "scripts")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make there, without what the surrounding make hands down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=kept, capture_output=True, text=True, timeout=60
    )


def fake_python(folder: Path, body: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"PYTHON={path}"


def test_no_python(folder: Path) -> None:
    done = make(folder, "setup", "PYTHON=python-that-is-not-there")
    assert done.returncode != 0
    assert "error: no python-that-is-not-there" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr


def test_a_python_that_is_too_old(folder: Path) -> None:
    body = '[ "$1" = --version ] && echo Python 3.9.2 && exit; exit 1'
    done = make(folder, "setup", fake_python(folder, body))
    assert done.returncode != 0
    assert "error: Python 3.9.2 is too old; Corral needs 3.11 or newer" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_a_python_without_venv(folder: Path) -> None:
    body = 'case "$*" in *ensurepip*) exit 1 ;; esac'
    done = make(folder, "setup", fake_python(folder, body))
    assert done.returncode != 0
    assert "sudo apt-get install python3-venv" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_runtime_that_there_is_not(folder: Path) -> None:
    done = make(folder, "serve", "RUNTIME=abacus")
    assert done.returncode != 0
    assert "RUNTIME='abacus' cannot be served; allowed: native, docker" in done.stderr


def test_a_finished_setup_is_not_done_again(folder: Path) -> None:
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").touch()
    (folder / ".venv" / ".base").touch()
    assert make(folder, "--question", "setup").returncode == 0
    os.utime(folder / "requirements" / "base.txt", (4e9, 4e9))
    assert make(folder, "--question", "setup").returncode == 1
