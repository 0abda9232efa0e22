"""Run a client program in the environment of its family, with no way out of this machine."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.loopback_only.sitecustomize import MARK
from tests.e2e.corral_process import child_environment

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
SECONDS = 120


def client_python(client: str) -> Path:
    """The interpreter of a client's own environment."""
    environment = ROOT / "build" / "clients" / client
    wanted = CLIENTS / "requirements" / f"{client}.txt"
    made_from = environment / "made-from.txt"
    current = made_from.is_file() and made_from.read_bytes() == wanted.read_bytes()
    assert current, f"no environment made from {wanted}; run tests/clients/make_env.sh {client}"
    return environment / "bin" / "python"


def run_program(
    *argv: str | Path, folder: Path, seconds: float = SECONDS, **environment: str
) -> str:
    """The stdout of a Python program that succeeds and that never tried to leave this machine.

    `folder` takes what the program's libraries cache: nothing of the user's is read or written.
    """
    done = subprocess.run(
        [str(part) for part in argv],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=seconds,
        env=child_environment(
            PYTHONPATH=str(CLIENTS / "loopback_only"),
            HOME=str(folder),
            DSPY_CACHEDIR=str(folder / "dspy"),
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            **environment,
        ),
    )
    assert done.returncode == 0, f"{argv[1]} ended with {done.returncode}:\n{done.stderr}"
    assert MARK not in done.stderr, done.stderr
    return done.stdout


def run_client(client: str, url: str, folder: Path) -> dict[str, Any]:
    """The results by scenario of tests/clients/<client>_program.py."""
    program = CLIENTS / f"{client.replace('-', '_')}_program.py"
    results: dict[str, Any] = json.loads(
        run_program(client_python(client), program, url, folder=folder)
    )
    return results
