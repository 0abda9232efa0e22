"""The log of one stage: what it and its tools have printed."""

import errno
from pathlib import Path

from corral.errors import CorralError, DiskFullError, ToolError

LOG_MAX_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 64 * 1024
PREFIX = b"error: "


def reason(log: Path) -> str:
    """Why a stage failed: its last `error: ` line, else the last line that says anything."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    errors = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
    said = errors or lines
    return said[-1].decode("utf-8", "replace")[:4000] if said else ""


def cannot_write(path: Path, error: OSError) -> CorralError:
    """What to raise when a job's own files cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space left to write {path}; free some and submit the job again")
    return ToolError(
        f"{path} cannot be written: {error.strerror or error}; make it writable and submit the job "
        "again",
        code="not_writable",
    )
