"""Compare files at rest with the sha256 that is recorded of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.registry import bundled
from corral.registry.disk import OnBytes, hash_of, ignore
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.registry.artifact import Artifact


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a model at rest, and what to do."""

    name: str
    path: Path
    message: str


class Checker:
    """Reads every file once, however many artifacts share it."""

    def __init__(self, on_bytes: OnBytes = ignore) -> None:
        self._on_bytes = on_bytes
        self._known: dict[tuple[int, int], str] = {}

    def artifact(self, artifact: "Artifact", blob_of: "dict[str, Path]") -> list[Finding]:
        """What is wrong with one artifact; `blob_of` is file name -> its blob."""
        again = f"get it again: corral models rm {artifact.name} --force, then pull or add it"
        findings = []
        for file in artifact.manifest.files:
            blob, shown = blob_of[file.name], artifact.path(file)
            for path in (blob, shown):
                wrong = self.file(path, file.sha256)
                if wrong:
                    findings.append(Finding(artifact.name, path, f"{path} {wrong}; {again}"))
                    break
        return findings

    def file(self, path: Path, sha256: str) -> str:
        """What is wrong with a file that should have this hash; empty when nothing is."""
        if not path.is_file():
            return "is missing"
        try:
            found = self._hash(path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return "" if found == sha256 else f"has the sha256 {found}, not {sha256}: it is damaged"

    def _hash(self, path: Path) -> str:
        about = path.stat()
        key = (about.st_dev, about.st_ino)
        if key not in self._known:
            self._known[key] = hash_of(path, self._on_bytes)
        return self._known[key]


def bundled_files(settings: Settings, name: str | None = None) -> dict[str, tuple[Path, str]]:
    """Bundled model -> its file and the sha256 that models.toml gives for it, where it gives one."""
    folder = settings.bundled_models_dir
    return {
        model: (folder / entry["file"], entry["sha256"])
        for model, entry in bundled.entries(folder).items()
        if entry.get("sha256") and name in (None, model)
    }


def verify_bundled(
    settings: Settings, name: str | None = None, on_bytes: OnBytes = ignore
) -> list[Finding]:
    """What is wrong with the models that come with Corral."""
    checker = Checker(on_bytes)
    findings = []
    for model, (path, sha256) in bundled_files(settings, name).items():
        wrong = checker.file(path, sha256)
        if wrong:
            message = f"{path} {wrong}; `git checkout -- models/` restores it"
            findings.append(Finding(model, path, message))
    return findings
