"""kill -9 at every step boundary of a quantise: no manifest names a file that is not whole, and the
same command, run again as a job does, ends with everything."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corral.registry.disk import hash_of
from corral.registry.gguf_header import read_header
from corral.registry.manifest import read
from tests.e2e.corral_process import child_environment

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "corral-tiny.gguf"
TYPES = ("Q8_0", "IQ4_XS")
# A name given or taken away, a manifest: what another process can see change.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{scripts!r}]
import importance
from corral.registry import disk, manifest
steps = []
def counted(name, call):
    def wrapped(*given, **more):
        made = call(*given, **more)
        steps.append(name)
        if len(steps) == {nth}:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    return wrapped
for name in ("replace", "fsync"):
    setattr(os, name, counted(name, getattr(os, name)))
Path.unlink = counted("unlink", Path.unlink)
importance.make = counted("importance matrix made", importance.make)
sys.argv = ["quantize_gguf.py", *sys.argv[1:]]
import llama_tools
llama_tools.LlamaTools.run = counted("a program ended", llama_tools.LlamaTools.run)
import runpy
runpy.run_path({script!r}, run_name="__main__")
"""
MOST_STEPS = 60


def run(out: Path, nth: int) -> "subprocess.CompletedProcess[str]":
    """Quantise, killed right after the step number `nth`, if there are so many."""
    scripts = ROOT / "scripts"
    program = KILLED.format(scripts=str(scripts), script=str(scripts / "quantize_gguf.py"), nth=nth)
    text = out.parent / "calibration.txt"
    text.write_text("For Vacancies in certain judgeships. Published in 1935 by Springer.\\n" * 200)
    argv = [sys.executable, "-c", program, "--model", str(MODEL), "--out", str(out), "--replace"]
    argv += ["--calibration", str(text), "--ctx", "128", "--threads", "1", *TYPES]
    environment = child_environment(PYTHONPATH=str(ROOT / "server"))
    return subprocess.run(argv, capture_output=True, text=True, env=environment)


def whole(out: Path) -> list[str]:
    """The names that manifests give; each with all its files, of the sizes and sums they say."""
    found = [read(path) for path in sorted(out.glob("*.manifest.json"))]
    for manifest in found:
        for file in manifest.files:
            path = out / file.name
            assert (path.stat().st_size, hash_of(path)) == (file.bytes, file.sha256)
    return [manifest.name for manifest in found]


def test_a_kill_at_any_step_and_the_same_command_again(tmp_path: Path) -> None:
    names = [f"corral-tiny-{kind}" for kind in sorted(TYPES)]
    kills = 0
    for nth in range(1, MOST_STEPS):
        out = tmp_path / str(nth)
        done = run(out, nth)
        if done.returncode == 0:
            break
        kills += 1
        assert done.returncode == -signal.SIGKILL, done.stderr
        seen = whole(out)
        assert set(seen) <= set(names)
        for path in out.glob("*.gguf"):
            read_header(path)
        again = run(out, 10_000)
        assert again.returncode == 0, again.stderr
        assert whole(out) == names
        made = {f"{name}.{end}" for name in names for end in ("gguf", "manifest.json")}
        assert {path.name for path in out.iterdir()} == {*made, "corral-tiny.imatrix.gguf"}
    else:
        pytest.fail(f"more than {MOST_STEPS} steps")
    print(f"killed after each of {kills} steps")
    assert kills > 12
