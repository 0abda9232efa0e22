"""What `corral doctor` concludes from what it saw: pure functions from facts to findings.

Looking at the machine is `corral.cli.doctor`'s part; nothing here runs a program or opens a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# The commit that scripts/llama_source.sh builds; a test compares the two and the submodule.
LLAMA_COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
MIB = 1024**2
# The bundled model with 4 slots of 8,192 tokens takes 0.4 GB; a 7 B model at Q4 takes 5.
LOW_MEMORY = 1024 * MIB
# A build, its source and the unpacked sdist together; see NEED_MB in scripts/build_llama.sh.
LOW_DISK = 700 * MIB
# A job's checkpoints, a model of 7 B at Q4, and the database's room to grow.
LOW_DATA_DISK = 5 * 1024 * MIB

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; `mend` is the command that helps, for all but `ok`."""

    area: str
    level: Level
    detail: str
    mend: str | None = None


@dataclass(frozen=True)
class Facts:
    """What was seen. None means absent: a tool, a build, an answer."""

    system: str
    tools: Mapping[str, str | None]
    gpus: tuple[str, ...]
    memory_total: int
    memory_free: int
    disk_path: Path
    disk_free: int
    bin_dir: Path
    build: Mapping[str, Any] | None
    server_version: str | None
    server_error: str
    bindings: str | None
    bindings_error: str
    host: str
    port: int
    port_taken: bool
    models: tuple[str, ...] = ()
    broken_models: Mapping[str, str] = field(default_factory=dict)


def diagnose(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which things depend on each other."""
    return [
        *_tools(facts),
        *_gpu(facts),
        _memory(facts),
        _disk(facts),
        *_build(facts),
        _bindings(facts),
        *_models(facts),
        _port(facts),
    ]


def possible_backends(facts: Facts) -> list[str]:
    """The values of BACKEND that `make build` could build on this machine now."""
    possible = {
        "cuda": facts.tools.get("nvcc") and facts.gpus and facts.system != "Darwin",
        "metal": facts.system == "Darwin",
        "vulkan": facts.tools.get("glslc"),
        "cpu": True,
    }
    return [backend for backend, here in possible.items() if here]


def _install(facts: Facts, apt: str, brew: str) -> str:
    return f"brew install {brew}" if facts.system == "Darwin" else f"sudo apt-get install {apt}"


def _tools(facts: Facts) -> Iterator[Finding]:
    # What is built runs without a compiler, so a missing one is a problem only before the build.
    needed: Level = "problem" if facts.build is None else "warning"
    wanted: tuple[tuple[str, Level, str, str, str], ...] = (
        ("c++", needed, "g++", "gcc", "builds llama.cpp"),
        ("cmake", needed, "cmake", "cmake", "builds llama.cpp"),
        ("ninja", "warning", "ninja-build", "ninja", "builds faster than make"),
        ("ccache", "warning", "ccache", "ccache", "makes the next build take seconds"),
        ("git", "warning", "git", "git", "fetches the llama.cpp submodule"),
    )
    for name, level, apt, brew, purpose in wanted:
        version = facts.tools.get(name)
        if version:
            yield Finding(name, "ok", version)
        else:
            yield Finding(name, level, f"missing; it {purpose}", _install(facts, apt, brew))


def _gpu(facts: Facts) -> Iterator[Finding]:
    yield Finding("backends", "ok", "can build: " + ", ".join(possible_backends(facts)))
    if not facts.gpus:
        yield Finding("gpu", "ok", "none found; models run on the processor")
        return
    names = ", ".join(facts.gpus)
    built = facts.build.get("backend") if facts.build else None
    best = possible_backends(facts)[0]
    if facts.system != "Darwin" and not facts.tools.get("nvcc"):
        mend = _install(facts, "nvidia-cuda-toolkit", "") + " && make build BACKEND=cuda"
        yield Finding("gpu", "warning", f"{names}: idle, nvcc is missing", mend)
    elif built == "cpu":
        mend = f"make build BACKEND={best}"
        yield Finding("gpu", "warning", f"{names}: idle, the build is for the processor", mend)
    else:
        yield Finding("gpu", "ok", names)


def _memory(facts: Facts) -> Finding:
    detail = f"{_gib(facts.memory_free)} free of {_gib(facts.memory_total)}"
    if facts.memory_free < LOW_MEMORY:
        mend = "end other programs, or serve with CORRAL_CTX_SIZE=2048 CORRAL_SLOTS=1"
        return Finding("memory", "warning", detail, mend)
    return Finding("memory", "ok", detail)


def _disk(facts: Facts) -> Finding:
    return disk_space(facts.disk_path, facts.disk_free, LOW_DISK, "a build needs")


def disk_space(path: Path, free: int, needed: int, purpose: str) -> Finding:
    """Whether there is room at `path` for what needs so many bytes."""
    detail = f"{_gib(free)} free at {path}"
    if free < needed:
        mend = "free some space, or move the data: CORRAL_DATA=/larger/disk"
        return Finding("disk", "warning", f"{detail}; {purpose} {needed // MIB} MiB", mend)
    return Finding("disk", "ok", detail)


def _build(facts: Facts) -> Iterator[Finding]:
    if facts.build is None:
        yield Finding(
            "llama.cpp", "problem", f"not built: nothing in {facts.bin_dir}", "make build"
        )
        return
    commit = str(facts.build.get("commit", "unknown"))
    detail = f"{commit[:9]} for {facts.build.get('backend')}, in {facts.bin_dir}"
    if commit != LLAMA_COMMIT:
        yield Finding(
            "llama.cpp", "problem", f"{detail}; pinned is {LLAMA_COMMIT[:9]}", "make build"
        )
    else:
        yield Finding("llama.cpp", "ok", detail)
    if facts.server_version is None:
        # The usual cause is a build for another processor, which the build script notices by itself.
        detail = f"llama-server does not start: {facts.server_error}"
        yield Finding("llama-server", "problem", detail, "make build")
    else:
        yield Finding("llama-server", "ok", facts.server_version)


def _bindings(facts: Facts) -> Finding:
    if facts.bindings is not None:
        return Finding("llama_cpp", "ok", f"Python bindings {facts.bindings} use this build")
    mend = (
        "CMAKE_ARGS=-DLLAMA_BUILD=OFF .venv/bin/pip install --no-deps --require-hashes "
        "-r requirements/data.txt"
    )
    detail = f"Python bindings do not load, so data cannot be tokenised: {facts.bindings_error}"
    return Finding("llama_cpp", "warning", detail, mend)


def _models(facts: Facts) -> Iterator[Finding]:
    if facts.models:
        yield Finding("models", "ok", ", ".join(facts.models))
    else:
        mend = "git checkout -- models, or put a .gguf file into models/ of the data directory"
        yield Finding("models", "problem", "there is none to serve", mend)
    for name, message in facts.broken_models.items():
        yield Finding(f"model {name}", "warning", message, "mend or remove that file")


def _port(facts: Facts) -> Finding:
    where = f"{facts.host}:{facts.port}"
    if facts.port_taken:
        detail = f"{where} is taken, perhaps by Corral itself"
        return Finding("port", "warning", detail, f"make serve PORT={facts.port + 1}")
    return Finding("port", "ok", f"{where} is free")


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
