"""What a hub holds: repositories, their files, and how its API describes them in JSON."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Gated = bool | str
LFS_SUFFIXES = (".gguf", ".safetensors", ".bin")


@dataclass
class HubFile:
    """One file. `listed_size` is what the API says where it lies about the size."""

    path: str
    content: bytes
    listed_size: int | None = None
    listed_sha256: str | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.listed_size is None else self.listed_size

    @property
    def is_lfs(self) -> bool:
        return self.path.endswith(LFS_SUFFIXES)

    @cached_property
    def sha256(self) -> str:
        return self.listed_sha256 or hashlib.sha256(self.content).hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """Git's own name of the blob; of an LFS file, of its pointer."""
        held = self.sha256.encode() if self.is_lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id

    def sibling(self, with_sizes: bool) -> dict[str, Any]:
        """As `/api/models/R` lists it, with `blobs=true` or without."""
        if not with_sizes:
            return {"rfilename": self.path}
        found: dict[str, Any] = {"rfilename": self.path, "size": self.size, "blobId": self.blob_id}
        if self.is_lfs:
            found["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": 134}
        return found

    def entry(self) -> dict[str, Any]:
        """As `/api/models/R/tree/…` lists it."""
        found: dict[str, Any] = {
            "type": "file",
            "path": self.path,
            "size": self.size,
            "oid": self.blob_id,
        }
        if self.is_lfs:
            found["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return found


@dataclass
class HubRepo:
    """One model repository with one commit on `main`."""

    name: str
    files: dict[str, HubFile]
    licence: str = "apache-2.0"
    downloads: int = 100
    gated: Gated = False
    tags: list[str] = field(default_factory=lambda: ["gguf"])

    @cached_property
    def commit(self) -> str:
        state = "".join(f"{file.path} {file.etag}\n" for file in self.files.values())
        return hashlib.sha1(f"{self.name}\n{state}".encode()).hexdigest()

    def info(self, with_sizes: bool) -> dict[str, Any]:
        """`/api/models/R`."""
        return {
            "_id": "0" * 24,
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit,
            "lastModified": "2026-08-01T00:00:00.000Z",
            "createdAt": "2026-07-01T00:00:00.000Z",
            "private": False,
            "disabled": False,
            "gated": self.gated,
            "downloads": self.downloads,
            "likes": 1,
            "tags": [*self.tags, f"license:{self.licence}"],
            "cardData": {"license": self.licence},
            "siblings": [file.sibling(with_sizes) for file in self.files.values()],
        }

    def refs(self) -> dict[str, Any]:
        """`/api/models/R/refs`."""
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.commit}
        return {"branches": [main], "tags": [], "converts": []}

    def tree(self) -> list[dict[str, Any]]:
        """`/api/models/R/tree/COMMIT?recursive=true`."""
        return [file.entry() for file in self.files.values()]


def repo(name: str, contents: dict[str, bytes], **more: Any) -> HubRepo:
    """A repository of these files."""
    return HubRepo(name, {path: HubFile(path, data) for path, data in contents.items()}, **more)
