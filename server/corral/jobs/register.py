"""Add what a job has made to the registry: the last stage of every job that leaves manifests.

    python -m corral.jobs.register FOLDER [--events FILE]

Adds the files of every `FOLDER/*.manifest.json`, which are gone from FOLDER afterwards. Can be killed
and run again at any moment: what is registered already stays as it is. Settings come from the
environment.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TextIO

from corral import database
from corral import settings as settings_module
from corral.caller import HOUSE
from corral.errors import CorralError
from corral.jobs.queue import owner_of
from corral.registry import manifest as manifests
from corral.registry.disk import hash_of
from corral.registry.manifest import Manifest
from corral.registry.store import Registry

EVENT_SECONDS = 0.25


class _Progress:
    """Tells how many bytes of all are in the store."""

    def __init__(self, events: TextIO | None, total: int) -> None:
        self._events, self._total = events, total
        self._done, self._last, self.name = 0, 0.0, ""

    def add(self, size: int) -> None:
        """So many bytes more."""
        self._done += size
        if self._events and time.monotonic() - self._last > EVENT_SECONDS:
            self._last = time.monotonic()
            _write(
                self._events, type="progress", done=self._done, total=self._total, unit="bytes",
                text=self.name,
            )  # fmt: skip


def main() -> None:
    """Register the folder that the arguments name; the names go to the events, or to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=Path)
    args = parser.parse_args()
    events = args.events.open("a", encoding="utf-8") if args.events else None
    settings = settings_module.load()
    try:
        # FOLDER is `out` in the job's own.
        owner = owner_of(database.ready(settings), args.folder.resolve().parent.name)
        names = register(args.folder, Registry(settings), events, owner)
    except CorralError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
    _write(events or sys.stdout, type="result", data={"registered": names})


def register(
    folder: Path, registry: Registry, events: TextIO | None = None, owner: str = HOUSE
) -> list[str]:
    """Add every manifest of `folder` as this owner's, bases before adapters; their names."""
    found = [manifests.read(path) for path in sorted(folder.glob(f"*{manifests.SUFFIX}"))]
    found.sort(key=lambda manifest: manifest.kind == "adapter")
    progress = _Progress(events, sum(_size(folder / f.name) for m in found for f in m.files))
    for manifest in found:
        progress.name = manifest.name
        whole = _with_hashes(manifest, folder).model_copy(update={"owner": owner})
        registry.add(whole, folder, move=True, on_bytes=progress.add)
    return [manifest.name for manifest in found]


def _with_hashes(manifest: Manifest, folder: Path) -> Manifest:
    """With the hash of every file, kept beside the files: should this process be killed after they
    have moved into the store, the next one finds them there by their hashes."""
    if all(file.sha256 for file in manifest.files):
        return manifest
    files = tuple(
        file if file.sha256 else file.model_copy(update={"sha256": hash_of(folder / file.name)})
        for file in manifest.files
        if (folder / file.name).is_file() or file.sha256
    )
    if len(files) < len(manifest.files):
        return manifest  # a file is missing: the registry says which
    whole = manifest.model_copy(update={"files": files})
    manifests.write(whole, folder)
    return whole


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _write(file: TextIO, **event: object) -> None:
    file.write(json.dumps(event, ensure_ascii=False) + "\n")
    file.flush()


if __name__ == "__main__":
    main()
