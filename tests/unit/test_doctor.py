"""`corral doctor`: what it concludes (pure), what it sees (real probes), what it prints."""

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from corral.cli import doctor
from corral.diagnosis import LLAMA_COMMIT, Facts, Finding, diagnose, possible_backends
from corral.settings import Settings

GIB = 1024**3
HEALTHY = Facts(
    system="Linux",
    tools={"c++": "c++ 12", "cmake": "cmake 3.25", "ninja": "1", "ccache": "4", "git": "2"},
    gpus=(),
    memory_total=16 * GIB,
    memory_free=8 * GIB,
    disk_path=Path("/data"),
    disk_free=50 * GIB,
    bin_dir=Path("/build/current/bin"),
    build={"commit": LLAMA_COMMIT, "backend": "cpu"},
    server_version="version: 1",
    server_error="",
    bindings="0.3.36",
    bindings_error="",
    host="127.0.0.1",
    port=8000,
    port_taken=False,
    models=("corral-tiny",),
)


def without(tool: str) -> dict[str, str | None]:
    return {**HEALTHY.tools, tool: None}


def with_tools(**tools: str) -> dict[str, str | None]:
    return {**HEALTHY.tools, **tools}


def finding(area: str, **changes: Any) -> Finding:
    (found,) = [f for f in diagnose(replace(HEALTHY, **changes)) if f.area == area]
    return found


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    assert {(f.level, f.mend) for f in diagnose(HEALTHY)} == {("ok", None)}


@pytest.mark.parametrize(
    ("area", "changes", "level", "mend"),
    [
        ("c++", {"tools": without("c++")}, "warning", "sudo apt-get install g++"),
        ("c++", {"tools": without("c++"), "build": None}, "problem", "sudo apt-get install g++"),
        ("cmake", {"tools": without("cmake"), "build": None}, "problem", "install cmake"),
        ("cmake", {"tools": without("cmake"), "system": "Darwin"}, "warning", "brew install cmake"),
        ("ninja", {"tools": without("ninja"), "build": None}, "warning", "install ninja-build"),
        ("ccache", {"tools": without("ccache")}, "warning", "install ccache"),
        ("gpu", {"gpus": ("H200",)}, "warning", "install nvidia-cuda-toolkit"),
        (
            "gpu",
            {"gpus": ("H200",), "tools": with_tools(nvcc="nvcc")},
            "warning",
            "make build BACKEND=cuda",
        ),
        ("memory", {"memory_free": GIB // 2}, "warning", "CORRAL_SLOTS=1"),
        ("disk", {"disk_free": GIB // 2}, "warning", "CORRAL_DATA="),
        ("llama.cpp", {"build": None}, "problem", "make build"),
        ("llama.cpp", {"build": {"commit": "f" * 40}}, "problem", "make build"),
        ("llama-server", {"server_version": None}, "problem", "make build"),
        ("llama_cpp", {"bindings": None}, "warning", "-r requirements/data.txt"),
        ("models", {"models": ()}, "problem", "git checkout -- models"),
        ("model bad", {"broken_models": {"bad": "truncated"}}, "warning", "mend or remove"),
        ("port", {"port_taken": True}, "warning", "make serve PORT=8001"),
    ],
)
def test_what_is_wrong_has_a_level_and_a_command(
    area: str, changes: dict[str, Any], level: str, mend: str
) -> None:
    found = finding(area, **changes)
    assert found.level == level
    assert mend in (found.mend or "")


def test_a_build_of_another_commit_shows_both() -> None:
    detail = finding("llama.cpp", build={"commit": "f" * 40, "backend": "cpu"}).detail
    assert "f" * 9 in detail
    assert LLAMA_COMMIT[:9] in detail


def test_a_gpu_that_is_used_is_fine() -> None:
    build = {"commit": LLAMA_COMMIT, "backend": "cuda"}
    tools = with_tools(nvcc="nvcc")
    assert finding("gpu", gpus=("H200",), tools=tools, build=build).level == "ok"


@pytest.mark.parametrize(
    ("changes", "backends"),
    [
        ({}, ["cpu"]),
        ({"tools": with_tools(nvcc="nvcc")}, ["cpu"]),
        ({"tools": with_tools(nvcc="nvcc"), "gpus": ("H200",)}, ["cuda", "cpu"]),
        ({"tools": with_tools(glslc="glslc")}, ["vulkan", "cpu"]),
        ({"system": "Darwin", "gpus": ("Apple GPU",)}, ["metal", "cpu"]),
    ],
)
def test_possible_backends(changes: dict[str, Any], backends: list[str]) -> None:
    assert possible_backends(replace(HEALTHY, **changes)) == backends


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(doctor.doctor)
    return app


@pytest.mark.parametrize(
    ("facts", "code", "status"),
    [
        (HEALTHY, 0, "ok"),
        (replace(HEALTHY, port_taken=True), 0, "warning"),
        (replace(HEALTHY, build=None), 1, "problem"),
    ],
)
def test_json_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, facts: Facts, code: int, status: str
) -> None:
    monkeypatch.setattr(doctor, "look", lambda settings: facts)
    result = CliRunner().invoke(command(), ["--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"]) == (code, status)
    assert {"area", "level", "detail", "mend"} == set(report["findings"][0])


def test_text_names_the_command_that_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "look", lambda settings: replace(HEALTHY, build=None))
    result = CliRunner().invoke(command(), [])
    assert "problem  llama.cpp" in result.stdout
    assert "mend: make build" in result.stdout


def test_looking_at_an_empty_machine(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "not" / "there",
        llama_bin_dir=tmp_path / "bin",
        bundled_models_dir=tmp_path,
        port=0,
    )
    facts = doctor.look(settings)
    assert facts.build is None
    assert facts.server_version is None
    assert "No such file" in facts.server_error
    assert facts.bindings is None
    assert facts.models == ()
    assert facts.disk_path == tmp_path
    assert 0 < facts.memory_free <= facts.memory_total


def test_a_build_is_read_from_beside_its_programs(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "build-info.json").write_text('{"commit": "abc", "backend": "cuda"}')
    server = tmp_path / "bin" / "llama-server"
    server.write_text("#!/bin/sh\necho 'version: 7' >&2\n")
    server.chmod(0o755)
    facts = doctor.look(Settings(llama_bin_dir=tmp_path / "bin", data_dir=tmp_path, port=0))
    assert facts.build == {"commit": "abc", "backend": "cuda"}
    assert facts.server_version == "version: 7"


def test_the_gpus_are_those_that_the_build_can_use(tmp_path: Path) -> None:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\necho '  CUDA0: NVIDIA H200 (143771 MiB, 143000 MiB free)'\n")
    server.chmod(0o755)
    facts = doctor.look(Settings(llama_bin_dir=tmp_path, data_dir=tmp_path, port=0))
    if facts.system != "Darwin":
        assert facts.gpus == ("NVIDIA H200 (CUDA0), 143771 MiB",)


def test_a_taken_port_is_seen() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert doctor._is_taken("127.0.0.1", port)
    assert not doctor._is_taken("127.0.0.1", port)


def test_a_program_that_fails_is_reported_by_its_last_line() -> None:
    program = "import sys; print('first', file=sys.stderr); sys.exit('last')"
    assert doctor._probe([sys.executable, "-c", program]) == (None, "last")
