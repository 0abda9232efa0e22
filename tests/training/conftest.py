"""Trainings of a few seconds on the bundled base: rows, stages as child processes, a llama.cpp source tree.

These need the `train` group and a built llama.cpp. Where torch is not installed they are not collected.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corral import settings

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = settings.Settings()
MODEL = DEFAULTS.bundled_models_dir / "corral-tiny.gguf"
FOLIO = DEFAULTS.bundled_models_dir / "corral-tiny-folio.gguf"
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
ROWS = 40

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]

Stage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def llama_source() -> Path:
    """The tree that has llama.cpp's converters."""
    from engines.adapter_gguf import source_tree

    return source_tree(None)


def argv(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]


def run_stage(script: str, *arguments: object, status: int = 0) -> dict[str, Any]:
    """Run a stage to its end; its result, or with a status of failure its error line under `error`."""
    environment = settings.child_environment({"PYTHONPATH": str(ROOT / "server")})
    done = subprocess.run(
        argv(script, *arguments), capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == status, done.stderr[-3000:]
    if status:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return {"error": errors[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty rows of the FOLIO task."""
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()[:ROWS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def token_rows(train_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, rendered."""
    folder = tmp_path_factory.mktemp("rendered") / "rows"
    run_stage("render_data.py", "--model", MODEL, "--file", train_file, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pairs: the right record against one whose title is another row's."""
    chats = [json.loads(line)["messages"] for line in HELD_OUT.read_text().splitlines()[:17]]
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for chat, other in pairwise(chats):
            row = {
                "input": {"messages": chat[:-1]},
                "preferred_output": [chat[-1]],
                "non_preferred_output": [other[-1]],
            }
            file.write(json.dumps(row) + "\n")
    return path
