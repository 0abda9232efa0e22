"""The rolling resume checkpoint of the torch engines."""

import io
from pathlib import Path
from typing import Any

import torch

import safe_files

RESUME = "resume.pt"


def save(work: Path, state: dict[str, Any]) -> None:
    """Replace the resume checkpoint. Serialised in memory first: torch.save to a full disk fails
    with an error that names no disk, and may do so after the old checkpoint is gone."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    safe_files.write(work / RESUME, buffer.getvalue())


def load(work: Path) -> dict[str, Any] | None:
    """The last checkpoint; None before the first. What a kill left half-written is removed."""
    (work / f"{RESUME}.part").unlink(missing_ok=True)
    if not (work / RESUME).exists():
        return None
    state: dict[str, Any] = torch.load(work / RESUME, weights_only=True)
    return state
