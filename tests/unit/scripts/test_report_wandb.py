"""Step metrics to Weights & Biases, through a stand-in for its package that writes down what it is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "report_wandb.py"
STAND_IN = """
import json, pathlib
class errors:
    class Error(Exception): pass
class Settings:
    def __init__(self, **_): pass
class Run:
    dir, url = "run/files", "https://example.org/run"
    def __init__(self, given): self.told = [given]
    def log(self, figures, step): self.told.append([step, figures])
    def finish(self): pathlib.Path("told.json").write_text(json.dumps(self.told))
def login(prompt): return {key}
def init(settings, **given):
    if given["mode"] == "online" and {down}: raise errors.Error("no route")
    return Run(given)
"""


def report(folder: Path, key: bool, down: bool) -> subprocess.CompletedProcess[str]:
    (folder / "wandb.py").write_text(
        STAND_IN.replace("{key}", str(key)).replace("{down}", str(down))
    )
    (folder / "metrics.csv").write_text("step,train_loss,valid_loss\n1,2.5,\n2,2.0,1.5\n")
    argv = [sys.executable, str(SCRIPT), "--metrics=metrics.csv", "--folder=w", "--project=p"]
    argv += ["--id=ftjob-1", "--tag=a", '--config={"n_epochs": 2}']
    path = f"{folder}:{SCRIPT.parents[1] / 'server'}"
    return subprocess.run(
        argv, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": path}
    )


@pytest.mark.parametrize(
    ("key", "down", "mode"),
    [(True, False, "online"), (True, True, "offline"), (False, True, "offline")],
)
def test_every_step_is_told_or_kept(tmp_path: Path, key: bool, down: bool, mode: str) -> None:
    done = report(tmp_path, key, down)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"run": "ftjob-1", "mode": mode, "steps": 2}
    given, *steps = json.loads((tmp_path / "told.json").read_text())
    assert steps == [
        [1, {"step": 1, "train_loss": 2.5}],
        [2, {"step": 2, "train_loss": 2.0, "valid_loss": 1.5}],
    ]
    assert (given["project"], given["tags"], given["config"]) == ("p", ["a"], {"n_epochs": 2})
    assert ("cannot be reached" in done.stderr) == (key and down)


def test_without_the_package_the_reason_is_told(tmp_path: Path) -> None:
    report(tmp_path, True, False)
    (tmp_path / "wandb.py").write_text("import no_such_module")
    argv = [
        sys.executable,
        str(SCRIPT),
        "--metrics=metrics.csv",
        "--folder=w",
        "--project=p",
        "--id=x",
    ]
    path = f"{tmp_path}:{SCRIPT.parents[1] / 'server'}"
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": path}
    )
    assert done.returncode == 1
    assert "pip install wandb" in done.stderr
