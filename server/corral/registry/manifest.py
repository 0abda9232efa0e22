"""What is recorded of an artifact: its files, where it came from, what was measured.

A stage writes one `NAME.manifest.json` beside the files it made; the registry checks it, adds what
it knows itself (revision, owner, time) and keeps it.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corral.errors import InvalidModel
from corral.registry.disk import write_whole

SUFFIX = ".manifest.json"
ArtifactKind = Literal["base", "adapter", "embedding"]
Role = Literal["weights", "adapter", "mmproj", "imatrix", "report"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ManifestFile(_Frozen):
    """One file. `name` is a plain file name; shards keep llama.cpp's `-00001-of-00003` names."""

    name: str = Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:+@-]{0,199}\z")
    role: Role = "weights"
    sha256: str = Field("", pattern=r"\A([0-9a-f]{64})?\z")
    bytes: int = Field(0, ge=0)


class BaseOf(_Frozen):
    """The model that an adapter or a quantised file was made from. `sha256` is of its first file."""

    name: str
    sha256: str = ""


class Manifest(_Frozen):
    """One artifact. `metrics` and `settings` are the stage's own; times are UTC."""

    name: str
    kind: ArtifactKind = "base"
    files: tuple[ManifestFile, ...] = Field(min_length=1)
    source: dict[str, Any] = Field(default_factory=dict)
    base: BaseOf | None = None
    # The adapter that the training of this one went on from, with the same base.
    start: BaseOf | None = None
    description: str = ""
    licence: str = ""
    llama_cpp_commit: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    defaults: dict[str, int | float | str | bool] = Field(default_factory=dict)
    # Set by the registry.
    revision: int = Field(0, ge=0)
    owner: str = "local"
    created: datetime | None = None

    def of_role(self, role: Role) -> list[ManifestFile]:
        """The files of one role, in the manifest's order."""
        return [file for file in self.files if file.role == role]


def read(path: Path) -> Manifest:
    """The manifest in `path`; InvalidModel says which field is wrong."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidModel(f"manifest {path} cannot be read: {error}", param=str(path)) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidModel(f"manifest {path}: {field}: {first['msg']}", param=str(path)) from error


def write(manifest: Manifest, folder: Path) -> Path:
    """Write `NAME.manifest.json` into `folder`, whole or not at all; its path."""
    path = folder / f"{manifest.name.replace(':', '_')}{SUFFIX}"
    text = manifest.model_dump_json(indent=1, exclude_defaults=True)
    write_whole(path, text.encode())
    return path


def now() -> datetime:
    """The time to record, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
