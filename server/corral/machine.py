"""What memory this machine has: RAM, and the GPUs that this build of llama.cpp can use.

Runs programs and reads files; blocks for a second at most where they answer.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from corral import settings as settings_module

MIB = 1024**2
SECONDS = 10
# `  CUDA0: NVIDIA GeForce RTX 4090 (24077 MiB, 23000 MiB free)`
DEVICE = re.compile(r"^\s+(\S+): (.+) \((\d+) MiB, (\d+) MiB free\)$", re.M)
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes in all, and not needed by others now. `usable`: whether the build can compute there."""

    name: str
    total: int
    free: int
    usable: bool = True


def memory() -> Memory:
    """RAM, or what a container may use of it (in all, where the system does not tell what is free)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _bytes_in(CGROUP / "memory.max"), _bytes_in(CGROUP / "memory.current")
    if limit is not None and limit < total:
        total, free = limit, min(free, max(0, limit - (used or 0)))
    return Memory("RAM", total, free)


def gpus(bin_dir: Path) -> tuple[Memory, ...]:
    """The GPUs of llama-server; where it has none, those that nvidia-smi knows, not `usable`."""
    listing = _output([str(bin_dir / "llama-server"), "--list-devices"])
    found = tuple(
        Memory(f"{name} ({device})", int(total) * MIB, int(free) * MIB)
        for device, name, total, free in DEVICE.findall(listing)
    )
    return found or _idle_gpus()


def _idle_gpus() -> tuple[Memory, ...]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free"]
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in _output([*query, "--format=csv,noheader,nounits"]).splitlines()
    ]
    return tuple(
        Memory(row[0], int(row[1]) * MIB, int(row[2]) * MIB, usable=False)
        for row in rows
        if len(row) == 3 and row[1].isdigit() and row[2].isdigit()
    )


def _output(argv: list[str]) -> str:
    """What a program prints; empty where it is missing or fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
            env=settings_module.child_environment({}),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _bytes_in(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
