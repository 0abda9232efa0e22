"""Models that the running Corral could not load, for other processes on this machine to show.

A file under `run/` that the serving process writes and removes again. An entry counts only as long
as its model's file is the one that failed.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from corral.registry.catalog import Catalog, Model
from corral.settings import Settings


@dataclass(frozen=True)
class Failure:
    """A model that llama-server did not load, and what to tell about it."""

    model: Model
    message: str


def record(settings: Settings, failures: Iterable[Failure]) -> None:
    """Replace what was recorded; without failures there is no file."""
    path = _path(settings)
    entries = [{"message": failure.message, **_identity(failure.model)} for failure in failures]
    if not entries:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(entries), encoding="utf-8")
    part.replace(path)


def marked(catalog: Catalog, settings: Settings) -> Catalog:
    """`catalog` with the recorded models as problems."""
    entries = []
    with contextlib.suppress(OSError, ValueError):
        entries = json.loads(_path(settings).read_text(encoding="utf-8"))
    for entry in entries:
        model = catalog.models.get(entry["name"])
        if model is not None and _identity(model).items() <= entry.items():
            catalog = catalog.without(model.name, entry["message"])
    return catalog


def _identity(model: Model) -> dict[str, str | int]:
    return {
        "name": model.name,
        "path": str(model.path),
        "size": model.size,
        "modified": model.modified,
    }


def _path(settings: Settings) -> Path:
    return settings.data_dir / "run" / "not-loaded.json"
