"""What the registry gives and takes: an artifact, what was collected, what makes two the same."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.registry import intake
from corral.registry.manifest import Manifest, ManifestFile


@dataclass(frozen=True)
class Artifact:
    """One revision of one name. `folder` holds its files under the names of the manifest."""

    id: str
    manifest: Manifest
    folder: Path
    facts: intake.Facts = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name it is served under."""
        return self.manifest.name

    def path(self, file: ManifestFile | str) -> Path:
        """Where one of its files is, under the name that llama.cpp wants."""
        return self.folder / (file if isinstance(file, str) else file.name)

    @property
    def main(self) -> tuple[ManifestFile, ...]:
        """The files that llama-server loads, in order: one, or all shards."""
        return tuple(self.manifest.of_role(intake.weights_role(self.manifest.kind)))

    @property
    def weights(self) -> Path:
        """The file to give llama.cpp: the model, its first shard, or the adapter."""
        return self.path(self.main[0])

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(file.bytes for file in self.manifest.files)


@dataclass(frozen=True)
class Collected:
    """What a garbage collection removed, or would remove: each path and the bytes it frees.
    `done` is False when it did not run because an add was going on."""

    removed: tuple[tuple[Path, int], ...] = ()
    done: bool = True

    @property
    def bytes(self) -> int:
        """All bytes freed."""
        return sum(size for _, size in self.removed)


def content(manifest: Manifest) -> tuple[Any, ...]:
    """What makes two manifests the same artifact: kind, files, base, defaults."""
    files = tuple((file.role, file.sha256) for file in manifest.files)
    return manifest.kind, files, manifest.base, manifest.defaults


def merge(old: Manifest, new: Manifest) -> Manifest:
    """What is recorded when the same content comes again: the newer word, where it has one."""
    said = ("source", "description", "licence", "llama_cpp_commit", "settings", "seed", "start")
    changes = {
        name: getattr(new, name) for name in said if getattr(new, name) not in (None, "", {})
    }
    return old.model_copy(update={**changes, "metrics": {**old.metrics, **new.metrics}})
