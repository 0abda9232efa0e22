"""Notice, cheaply, that what there is to serve has changed.

Covers: the registry's change counter, and the files in the folders that are scanned (a file counts
by path, size and time). Does not notice a file whose bytes changed while size and time did not.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from corral.registry.bundled import BUNDLED_LIST
from corral.registry.catalog import Catalog
from corral.registry.scan import scan
from corral.settings import Settings

Stamp = tuple[str, int, int, int]


class Watch:
    """Remembers what it has seen last. Blocking: call it from a thread, one call at a time."""

    def __init__(self, settings: Settings, version: Callable[[], int]) -> None:
        self._settings = settings
        self._version = version
        self._seen: tuple[int, list[Stamp]] | None = None

    def poll(self) -> Catalog | None:
        """The catalogue when something has changed since the last call, else None. The first call
        always gives it. Raises what `scan` raises, once per change."""
        # Before the scan: what changes during it is then seen by the next call.
        seen = (self._version(), sorted(self._stamps()))
        if seen == self._seen:
            return None
        self._seen = seen
        return scan(self._settings)

    def _stamps(self) -> Iterator[Stamp]:
        settings = self._settings
        for folder in (settings.data_dir / "models", *settings.models_dirs):
            yield from _files(folder.rglob("*.gguf"))
        bundled = settings.bundled_models_dir
        yield from _files([bundled / BUNDLED_LIST, *bundled.glob("*.gguf")])


def _files(paths: "Iterator[Path] | list[Path]") -> Iterator[Stamp]:
    for path in paths:
        # Downloads and copies in progress have such names; nothing that is served does.
        if path.name.startswith("."):
            continue
        try:
            stat = path.stat()
        except OSError:  # gone since it was listed
            continue
        yield (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
