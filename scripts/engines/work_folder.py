"""Whose work folder this is: a checkpoint is good for the same model, rows and settings only."""

import json
from pathlib import Path
from typing import Any

import safe_files
from corral.errors import BadRequest

IDENTITY = "task.json"
# What training says of a few examples, for the parity check to compare.
PARITY = "parity.json"
PARITY_EXAMPLES = 4


def parity_examples(rows: int) -> list[int]:
    """Row numbers spread over all of them."""
    return [at * (rows - 1) // (PARITY_EXAMPLES - 1) for at in range(PARITY_EXAMPLES)]


def claim(work: Path, identity: dict[str, Any]) -> None:
    """Mark the work folder as this task's; BadRequest when it is another's, naming what differs."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / IDENTITY
    if not path.exists():
        safe_files.write(path, json.dumps(identity, indent=1).encode())
        return
    there = json.loads(path.read_text("utf-8"))
    differ = [
        f"{name} ({there.get(name)!r} there, {identity.get(name)!r} now)"
        for name in sorted({*there, *identity})
        if there.get(name) != identity.get(name)
    ]
    if differ:
        raise BadRequest(
            f"{work} belongs to another training: {'; '.join(differ)}; give another --work, or delete it to start anew",
            param="work",
        )
