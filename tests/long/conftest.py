"""The environment of the consumers that training data is made for."""

import subprocess
import venv
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / "build" / "data-consumers"
# torch first and alone: what the others ask for would bring its CUDA build.
PACKAGES = (["torch==2.13.0"], ["trl", "datasets", "mlx[cpu]", "mlx-lm"])


@pytest.fixture(scope="session")
def consumers() -> Path:
    """A Python with mlx-lm, TRL and datasets, made the first time (about 1.5 GB): their pins are
    not ours, so they have an environment of their own."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "complete").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        for packages in PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (ENVIRONMENT / "complete").touch()
    return python
