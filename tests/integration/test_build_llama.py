"""scripts/build_llama.sh, run for real over fake tools."""

import json
import time
from pathlib import Path

import pytest

from corral.diagnosis import LLAMA_COMMIT
from tests.fakes.build_tools import TREE, Clone, make_clone, wait_for


@pytest.fixture
def bare(tmp_path: Path) -> Clone:
    """A clone without llama.cpp's source."""
    return make_clone(tmp_path)


@pytest.fixture
def clone(bare: Clone) -> Clone:
    """A clone whose source was unpacked earlier."""
    tree = bare.root / "build" / "src" / TREE
    tree.mkdir(parents=True)
    (tree / "CMakeLists.txt").write_text("# fake\n")
    return bare


def test_it_builds_every_program_and_records_what_it_did(clone: Clone) -> None:
    done = clone.run(BACKEND="cpu")
    assert done.returncode == 0, done.stderr
    assert (clone.current / "bin" / "llama").is_file()
    assert (clone.current / "bin" / "llama-server").is_file()
    info = json.loads((clone.current / "build-info.json").read_text())
    assert (info["commit"], info["backend"]) == (LLAMA_COMMIT, "cpu")
    assert info["compiler"] == "c++ (Fake) 12.2.0"
    assert {"-DLLAMA_OPENSSL=ON", "-DGGML_NATIVE=ON", "-DGGML_CUDA=OFF"} <= set(info["flags"])
    assert "llama.cpp (cpu): 50%" in done.stderr
    assert "llama.cpp (cpu): 100%" in done.stderr


def test_a_second_call_does_nothing(clone: Clone) -> None:
    clone.run(BACKEND="cpu")
    start = time.monotonic()
    done = clone.run(BACKEND="cpu")
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stderr) == (0, "")
    assert len(clone.calls("--build")) == 1


@pytest.mark.parametrize(
    "change", [{"NATIVE": "OFF"}, {"FAKE_CXX_VERSION": "13"}, {"GGML_BACKEND_DL": "ON"}]
)
def test_another_flag_or_compiler_builds_again(clone: Clone, change: dict[str, str]) -> None:
    clone.run(BACKEND="cpu")
    assert clone.run(BACKEND="cpu", **change).returncode == 0
    assert len(clone.calls("--build")) == 2


def test_backends_as_modules_bring_the_merging_program_along(clone: Clone) -> None:
    """Upstream leaves llama-export-lora out of such builds."""
    done = clone.run(BACKEND="cpu", GGML_BACKEND_DL="ON")
    assert done.returncode == 0, done.stderr
    (configure,) = clone.calls("-S ")
    (included,) = [
        word for word in configure.split() if word.startswith("-DCMAKE_PROJECT_llama.cpp_INCLUDE=")
    ]
    assert included.endswith("/scripts/cmake/export_lora.cmake")
    assert str(clone.root) not in (clone.current / "build-info.json").read_text()
    assert (clone.current / "bin" / "llama-export-lora").is_file()


def test_cuda_for_other_machines_names_the_architectures(clone: Clone) -> None:
    clone.fake("nvcc", "echo release 13.0,")
    clone.run(BACKEND="cuda", NATIVE="OFF")
    (portable,) = clone.calls("-S ")
    assert "-DCMAKE_CUDA_ARCHITECTURES=75-virtual;80-real;86-real;89-real;90;120a-real" in portable
    clone.run(BACKEND="cuda", NATIVE="OFF", CUDA_ARCHITECTURES="90")
    assert "-DCMAKE_CUDA_ARCHITECTURES=90 " in clone.calls("-S ")[-1] + " "


def test_a_lost_program_is_built_again(clone: Clone) -> None:
    clone.run(BACKEND="cpu")
    (clone.current / "bin" / "llama-quantize").unlink()
    assert clone.run(BACKEND="cpu").returncode == 0
    assert (clone.current / "bin" / "llama-quantize").is_file()


def test_the_last_backend_built_is_the_current_one(clone: Clone) -> None:
    clone.fake("glslc")
    clone.run(BACKEND="cpu")
    clone.run(BACKEND="vulkan")
    assert clone.current.readlink() == Path("vulkan")
    assert clone.run(BACKEND="cpu").stderr == ""
    assert clone.current.readlink() == Path("cpu")


def test_prefix_gets_a_copy_that_stands_alone(clone: Clone, tmp_path: Path) -> None:
    assert clone.run(BACKEND="cpu", PREFIX=str(tmp_path / "image")).returncode == 0
    assert (tmp_path / "image" / "bin" / "llama-server").is_file()
    assert (tmp_path / "image" / "build-info.json").is_file()


def test_make_stands_in_for_ninja(clone: Clone) -> None:
    (clone.tools / "ninja").unlink()
    clone.run(BACKEND="cpu")
    info = json.loads((clone.current / "build-info.json").read_text())
    assert info["generator"] == "Unix Makefiles"


def test_a_folder_of_another_generator_is_made_anew(clone: Clone) -> None:
    clone.run(BACKEND="cpu", FAKE_COMPILE_FAILS="1")
    stale = clone.root / "build" / "llama" / "cpu" / "stale"
    stale.touch()
    clone.run(BACKEND="cpu", FAKE_COMPILE_FAILS="1")
    assert stale.exists()
    (clone.tools / "ninja").unlink()
    assert clone.run(BACKEND="cpu").returncode == 0
    assert not stale.exists()


def test_dry_run_prints_the_commands_and_changes_nothing(bare: Clone) -> None:
    done = bare.run("--dry-run", BACKEND="cpu", CUDA_ARCHITECTURES="80;90")
    configure, build = done.stdout.splitlines()
    assert f"cmake -S {bare.root}/build/src/{TREE} -B {bare.root}/build/llama/cpu" in configure
    assert "-DCMAKE_CUDA_ARCHITECTURES=80\\;90" in configure
    assert build.startswith(f"cmake --build {bare.root}/build/llama/cpu --parallel")
    assert not (bare.root / "build").exists()


@pytest.mark.parametrize(
    ("tools", "flag"),
    [
        ({}, "-DGGML_METAL=OFF -DGGML_VULKAN=OFF"),
        ({"uname": "echo Darwin"}, "-DGGML_METAL=ON"),
        ({"nvcc": "echo release 12.4,", "nvidia-smi": "echo 'GPU 0: Fake'"}, "-DGGML_CUDA=ON"),
        ({"nvcc": "echo release 12.4,", "nvidia-smi": "exit 9"}, "-DGGML_CUDA=OFF"),
    ],
    ids=["cpu", "metal", "cuda", "cuda without an answering gpu"],
)
def test_the_backend_is_found_by_itself(clone: Clone, tools: dict[str, str], flag: str) -> None:
    clone.fake("uname", "echo Linux")
    for name, body in tools.items():
        clone.fake(name, body)
    assert flag in clone.run("--dry-run").stdout


def test_a_missing_compiler(clone: Clone) -> None:
    clone.fake("apt-get")
    (clone.tools / "c++").unlink()
    done = clone.run(BACKEND="cpu")
    assert done.returncode == 1
    assert "no C++ compiler answers to 'c++'" in done.stderr
    assert "sudo apt-get install g++" in done.stderr


def test_a_missing_cmake(clone: Clone) -> None:
    clone.fake("apt-get")
    (clone.tools / "cmake").unlink()
    done = clone.run(BACKEND="cpu")
    assert done.returncode == 1
    assert "cmake is missing" in done.stderr
    assert "sudo apt-get install cmake" in done.stderr


@pytest.mark.parametrize(
    ("backend", "version", "least"), [("cpu", "3.13.4", "3.14"), ("cuda", "3.17.0", "3.18")]
)
def test_a_cmake_that_is_too_old(clone: Clone, backend: str, version: str, least: str) -> None:
    done = clone.run(BACKEND=backend, FAKE_CMAKE_VERSION=version)
    assert done.returncode == 1
    assert f"cmake {version} is too old" in done.stderr
    assert f"needs {least} or newer" in done.stderr
    assert ".venv/bin/pip install cmake" in done.stderr


def test_cmake_4_is_new_enough(clone: Clone) -> None:
    assert clone.run(BACKEND="cpu", FAKE_CMAKE_VERSION="4.1.0").returncode == 0


def test_a_build_without_https_is_refused(clone: Clone) -> None:
    clone.fake("apt-get")
    done = clone.run(BACKEND="cpu", FAKE_NO_OPENSSL="1")
    assert done.returncode == 1
    assert "no HTTPS" in done.stderr
    assert "sudo apt-get install libssl-dev" in done.stderr
    assert clone.calls("--build") == []


def test_an_older_pin_with_a_real_libcurl_option_gets_it(clone: Clone) -> None:
    tree = clone.root / "build" / "src" / TREE
    (tree / "CMakeLists.txt").write_text('option(LLAMA_CURL "llama: use libcurl" ON)\n')
    assert "-DLLAMA_CURL=ON" in clone.run("--dry-run", BACKEND="cpu").stdout


def test_no_disk_space(clone: Clone) -> None:
    clone.fake("df", "echo header; echo '/dev/fake 1000000 900000 51200 95% /'")
    done = clone.run(BACKEND="cpu")
    assert done.returncode == 1
    assert "not enough disk space" in done.stderr
    assert "needed: 200 MB" in done.stderr
    assert "free:   50 MB" in done.stderr
    assert clone.calls("-S") == []


@pytest.mark.parametrize("backend", ["cuda", "vulkan", "metal", "abacus"])
def test_a_backend_that_cannot_be_built_here(clone: Clone, backend: str) -> None:
    clone.fake("uname", "echo Linux")
    done = clone.run(BACKEND=backend)
    assert done.returncode == 1
    assert f"BACKEND={backend}" in done.stderr or f"BACKEND '{backend}'" in done.stderr
    assert "cpu" in done.stderr or "Mend it with" in done.stderr


@pytest.mark.parametrize("stage", ["FAKE_CONFIGURE_FAILS", "FAKE_COMPILE_FAILS"])
def test_a_failed_build_shows_why_and_is_tried_again(clone: Clone, stage: str) -> None:
    done = clone.run(BACKEND="cpu", **{stage: "1"})
    assert done.returncode == 1
    assert "rror: fake" in done.stderr
    assert f"The full log is {clone.root}/build/llama/cpu.log" in done.stderr
    assert not clone.current.exists()
    assert clone.run(BACKEND="cpu").returncode == 0


def test_two_builds_at_once_take_turns(clone: Clone, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = clone.start(BACKEND="cpu", FAKE_WAIT_FOR=str(go))
    wait_for(lambda: clone.calls("--build"))
    second = clone.start(BACKEND="cpu", FAKE_WAIT_FOR=str(go))
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    go.touch()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert len(clone.calls("--build")) == 1
    first.communicate()
    second.communicate()
