"""`corral doctor`: is everything there that Corral needs on this machine, and what mends it."""

import json
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from corral import machine
from corral import settings as settings_module
from corral.cli.doctor_live import Asker
from corral.diagnosis import (
    LOW_DATA_DISK,
    Facts,
    Finding,
    diagnose,
    disk_space,
    possible_backends,
)
from corral.diagnosis_live import diagnose_live
from corral.settings import Settings

SECONDS_PER_PROBE = 10
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
TOOLS = {
    "c++": ["c++", "--version"],
    "cmake": ["cmake", "--version"],
    "ninja": ["ninja", "--version"],
    "ccache": ["ccache", "--version"],
    "git": ["git", "--version"],
    "glslc": ["glslc", "--version"],
}
# In a child: llama_cpp loads its library when imported, and a wrong one can end the process.
BINDINGS = "import llama_cpp; llama_cpp.llama_backend_init(); print(llama_cpp.__version__)"


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Ask a running Corral instead.")] = False,
    url: Annotated[str, typer.Option("--url", help="Its address, for --live.")] = "",
) -> None:
    """Report toolchain, backends, GPU, memory, what is built, models and ports. With --live: whether a
    running Corral answers, how fast, with which models, workers and keys.

    Exit code 1 when something needed is missing or broken; every such line names the command that
    mends it.
    """
    settings = settings_module.load()
    if live or url:
        report, findings = _live(settings, url)
    else:
        facts = look(settings)
        findings = diagnose(facts)
        report = _report(facts, findings)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(findings)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _live(settings: Settings, url: str) -> tuple[dict[str, Any], list[Finding]]:
    seen = Asker(url or f"http://{settings.published or _address(settings)}", settings).look()
    findings = diagnose_live(seen)
    if seen.local:
        findings.append(disk_finding(settings.data_dir))
    figures = {name: asdict(w) for name in ("plain", "stream") if (w := getattr(seen, name))}
    return {"url": seen.url, "model": seen.model, **_summary(findings), **figures}, findings


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def look(settings: Settings) -> Facts:
    """See what there is on this machine. Blocks for up to some seconds; changes nothing."""
    version, error = _probe([str(settings.llama_bin_dir / "llama-server"), "--version"])
    bindings, bindings_error = _bindings(settings)
    memory = machine.memory()
    models, broken = _models(settings)
    disk = _folder_of(settings.data_dir)
    return Facts(
        system=platform.system(),
        tools={name: _probe(argv)[0] for name, argv in TOOLS.items()} | {"nvcc": _nvcc()},
        gpus=_gpus(settings),
        memory_total=memory.total,
        memory_free=memory.free,
        disk_path=disk,
        disk_free=shutil.disk_usage(disk).free,
        bin_dir=settings.llama_bin_dir,
        build=_build_info(settings.llama_bin_dir),
        server_version=version,
        server_error=error,
        bindings=bindings,
        bindings_error=bindings_error,
        host=settings.host,
        port=settings.port,
        port_taken=_is_taken(settings.host, settings.port),
        models=models,
        broken_models=broken,
    )


def disk_finding(data_dir: Path) -> Finding:
    """What is free where the data is."""
    disk = _folder_of(data_dir)
    return disk_space(disk, shutil.disk_usage(disk).free, LOW_DATA_DISK, "jobs and models need")


def _folder_of(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.is_dir())


def _probe(argv: Sequence[str], **variables: str) -> tuple[str | None, str]:
    """The first line a command prints, or None and why it printed none."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=SECONDS_PER_PROBE,
            check=False,
            env=settings_module.child_environment(variables),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    # llama-server prints its version on stderr; a traceback's last line is the one that says why.
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode == 0 and lines:
        return lines[0], ""
    return None, lines[-1] if lines else f"exit code {done.returncode}"


def _nvcc() -> str | None:
    for nvcc in ("nvcc", "/usr/local/cuda/bin/nvcc"):
        if _probe([nvcc, "--version"])[0]:
            return nvcc
    return None


def _gpus(settings: Settings) -> tuple[str, ...]:
    if platform.system() == "Darwin":
        return ("Apple GPU (Metal)",)
    found = machine.gpus(settings.llama_bin_dir)
    return tuple(f"{gpu.name}, {gpu.total // machine.MIB} MiB" for gpu in found)


def _build_info(bin_dir: Path) -> dict[str, Any] | None:
    try:
        info = json.loads((bin_dir.parent / "build-info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) else None


def _bindings(settings: Settings) -> tuple[str | None, str]:
    library = str(settings.llama_bin_dir)
    return _probe([sys.executable, "-c", BINDINGS], LLAMA_CPP_LIB_PATH=library)


def _models(settings: Settings) -> tuple[tuple[str, ...], dict[str, str]]:
    # Here and not above: gguf brings numpy, and `corral --help` should not wait for it.
    from corral.registry.scan import scan

    catalog = scan(settings)
    return tuple(catalog.models), {problem.name: problem.message for problem in catalog.problems}


def _is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _report(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    seen = {
        "backends": possible_backends(facts),
        "gpus": list(facts.gpus),
        "build": facts.build,
    }
    return seen | _summary(findings)


def _summary(findings: Sequence[Finding]) -> dict[str, Any]:
    levels = [finding.level for finding in findings]
    worst = next(level for level in ("problem", "warning", "ok") if level in levels)
    return {"status": worst, "findings": [asdict(finding) for finding in findings]}


def _print(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.area) for finding in findings)
    for finding in findings:
        level = f"[{COLOURS[finding.level]}]{finding.level:8}[/]"
        console.print(f"{level} {escape(finding.area):{width}}  {escape(finding.detail)}")
        if finding.mend:
            console.print(f"{'':8} {'':{width}}  mend: {escape(finding.mend)}")
