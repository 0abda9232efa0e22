"""The plugin that fails a run with skips, in a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSES = "def test_a() -> None: pass\n"
SKIPS = "import pytest\ndef test_b() -> None: pytest.skip('no tool')\n"


def run(folder: Path, ci: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", *arguments, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two workers"])
@pytest.mark.parametrize(
    ("content", "ci", "code"), [(PASSES, "true", 0), (SKIPS, "", 0), (SKIPS, "true", 1)]
)
def test_a_skip_fails_the_run_in_ci(
    tmp_path: Path, content: str, ci: str, code: int, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "test_x.py").write_text(content)
    done = run(tmp_path, ci, *arguments)
    assert done.returncode == code, done.stdout
    assert ("1 skipped: a skip is a failure in CI" in done.stdout) == bool(code)
