"""Pretraining goes on from a start that is there, or from none."""

import subprocess
from pathlib import Path

import pytest

from pretrain_tiny import can_start
from tests.training.conftest import MODEL, argv


@pytest.mark.parametrize("made", ["folder", "nothing"])
def test_a_start_that_is_not_there_ends_the_run_before_anything_is_written(
    made: str, tmp_path: Path
) -> None:
    start, out = tmp_path / "start", tmp_path / "out"
    if made == "folder":
        start.mkdir()
    options = ["--llama-source", tmp_path, "--steps", 1, "--out", out, "--start", start]
    done = subprocess.run(argv("pretrain_tiny.py", *options), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f"--start {start} is neither a GGUF nor the work folder of a run" in done.stderr
    assert not out.exists()


def test_a_start_that_is_there_or_no_longer_needed_is_taken(tmp_path: Path) -> None:
    finished, gone = tmp_path / "finished", tmp_path / "gone"
    finished.mkdir()
    (finished / "checkpoint.pt").touch()
    out = tmp_path / "out"
    assert can_start(out, None)
    assert can_start(out, MODEL)
    assert can_start(out, finished)
    assert can_start(finished, gone)
    assert not can_start(out, gone)
