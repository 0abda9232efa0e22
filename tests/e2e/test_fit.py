"""What `corral models fit` says against what llama-server takes and llama-quantize writes."""

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import random_model
from corral.registry.fit import MIB, Shape, need_of
from corral.registry.fit_subject import Wish, local, remote
from corral.registry.fit_tools import measured_need, quantised
from corral.registry.gguf_header import read_header
from corral.registry.remote_header import read_remote_header
from corral.settings import child_environment, load
from private_server import free_port
from tests.fakes.range_server import RangeServer

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "corral-tiny.gguf"
BIN = load().llama_bin_dir
START_SECONDS = 300


@pytest.fixture(scope="module")
def random_20m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random") / "random-20m.gguf"
    random_model.write(path, 20_000_000, seed=1, kind="f16", tokenizer=BUNDLED)
    return path


@contextmanager
def serving(model: Path, context: int, slots: int, log: Path) -> Iterator[int]:
    """llama-server with this model, as Corral's presets start it; its process id once it answers."""
    port = free_port()
    argv = [
        str(BIN / "llama-server"),
        "-m",
        str(model),
        "--port",
        str(port),
        "--offline",
        "-lv",
        "4",
    ]
    argv += ["-c", str(context * slots), "-np", str(slots), "-t", "1", "--no-webui"]
    with log.open("wb") as output:
        child = subprocess.Popen(argv, stdout=output, stderr=output, env=child_environment({}))
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and child.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        assert child.poll() is None, log.read_text()
        yield child.pid
    finally:
        child.terminate()
        child.wait()


def logged(log: Path, what: str) -> float:
    """MiB of the buffers of one kind that llama-server says it made."""
    sizes = re.findall(rf"{what} buffer size = +([\d.]+) MiB", log.read_text())
    assert sizes
    return sum(map(float, sizes))


def resident(pid: int) -> float:
    (pages,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(pages) / 1024


@pytest.mark.parametrize(("context", "slots"), [(2048, 1), (1024, 4)])
@pytest.mark.parametrize("which", ["bundled", "random"])
def test_a_real_load_takes_what_was_said(
    which: str, context: int, slots: int, random_20m: Path, tmp_path: Path
) -> None:
    model = BUNDLED if which == "bundled" else random_20m
    shape = Shape([read_header(model, details=True)])
    told, guessed = (
        measured_need(BIN, model, context, slots, shape.weights),
        need_of(shape, context, slots),
    )
    with serving(model, context, slots, tmp_path / "log") as pid:
        used = resident(pid)
    assert logged(tmp_path / "log", "KV") == pytest.approx(guessed.kv_cache / MIB, abs=0.01)
    assert logged(tmp_path / "log", "KV") == pytest.approx(told.kv_cache / MIB, abs=0.51)
    assert logged(tmp_path / "log", "compute") == pytest.approx(told.compute / MIB, abs=0.52)
    assert logged(tmp_path / "log", "compute") == pytest.approx(guessed.compute / MIB, rel=0.15)
    assert logged(tmp_path / "log", "model") == pytest.approx(shape.weights / MIB, abs=0.01)
    # Buffers that were not touched yet are not resident; libraries are.
    assert 0.6 * told.total / MIB < used < 1.15 * told.total / MIB


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K"])
def test_a_type_is_as_large_as_was_said(name: str, random_20m: Path, tmp_path: Path) -> None:
    (candidate,) = quantised(BIN, random_20m, [name])
    out = tmp_path / "out.gguf"
    argv = [str(BIN / "llama-quantize"), str(random_20m), str(out), name, "1"]
    subprocess.run(argv, check=True, capture_output=True)
    assert candidate.weights == Shape([read_header(out, details=True)]).weights


def test_types_that_want_an_importance_matrix_are_marked() -> None:
    marked = {
        one.type for one in quantised(BIN, BUNDLED, ["IQ2_XS", "Q4_K_M"]) if one.needs_imatrix
    }
    assert marked == {"IQ2_XS"}


def test_a_remote_model_is_judged_as_if_it_were_here() -> None:
    wish = Wish(2048, 8192, 2)
    here = local("m", BUNDLED, wish, BIN)
    with RangeServer(BUNDLED.read_bytes()) as server:
        there = remote("m", [(BUNDLED.name, read_remote_header(server.url))], wish, BIN)
        assert server.sent < BUNDLED.stat().st_size / 10
    assert there.need == here.need
    assert there.need.method == "llama-fit-params"
    assert there.candidates == here.candidates


def test_the_random_model_is_the_same_each_time(random_20m: Path, tmp_path: Path) -> None:
    shape = random_model.write(
        tmp_path / random_20m.name, 20_000_000, seed=1, kind="f16", tokenizer=BUNDLED
    )
    assert (tmp_path / random_20m.name).read_bytes() == random_20m.read_bytes()
    assert shape.parameters == Shape([read_header(random_20m, details=True)]).parameters
    assert abs(shape.parameters - 20_000_000) < 2_000_000
