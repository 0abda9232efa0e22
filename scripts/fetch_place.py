"""What was fetched, on its way to the registry: room on the disk, links or copies, checksums, manifest."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import stage
from corral.errors import DiskFullError, StoreError
from corral.registry.catalog import SHARD, tame
from corral.registry.disk import nearest
from corral.registry.hub_files import RepoFile
from corral.registry.local_files import describe
from corral.registry.manifest import Manifest, write

CHUNK = 4 * 1024 * 1024
READ_ONLY = 0o444
# Left free beyond what is fetched: logs and the database need some.
SPARE_BYTES = 64 * 1024 * 1024
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """One file that is here. `shared`: a cache owns it, nobody writes into it, so it may be linked."""

    path: Path
    name: str
    sha256: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Fetched:
    """The files of one model, the weights first, and where they come from."""

    parts: tuple[Part, ...]
    source: dict[str, Any]
    licence: str = ""
    fetched_bytes: int = 0


def check_space(
    what: str, needed: int, folder: Path, hint: str, free: Callable[[Path], int] | None = None
) -> None:
    """Raise DiskFullError unless `needed` bytes, and some to spare, are free where `folder` is."""
    there = (free or free_bytes)(folder)
    if needed and there < needed + SPARE_BYTES:
        raise DiskFullError(
            f"fetching {what} needs {needed + SPARE_BYTES:,} bytes in {folder}, {there:,} are free: "
            f"make room there, or {hint}",
            param=str(folder),
        )


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that `folder` is, or will be, on."""
    return shutil.disk_usage(nearest(folder)).free


def cannot_write(folder: Path, error: OSError, variable: str) -> NoReturn:
    """Say why a folder cannot be written, and what to do; `variable` says where the folder is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFullError(
            f"the disk of {folder} is full: make room there, or set {variable} to a folder on a larger disk"
        ) from error
    raise StoreError(
        f"{error.filename or folder} cannot be written: {error.strerror}; make it writable, or set "
        f"{variable} to a folder that is",
        param=str(folder),
    ) from error


def place(part: Part, out: Path, reporter: stage.Reporter) -> Part:
    """The file in `out` under a tame name: a hard link to what is shared, else a copy."""
    target = out / tame_file(part.name)
    source = part.path.resolve()
    try:
        target.unlink(missing_ok=True)
        if part.shared and _linked(source, target):
            return replace(part, path=target)
        size = source.stat().st_size
        hint = "set CORRAL_DATA to a folder on a larger disk"
        check_space(f"`{part.name}`", size, out, hint)
        _copy(source, target, lambda done: reporter.progress(done, size, "bytes", part.name))
    except OSError as error:
        target.unlink(missing_ok=True)
        cannot_write(out, error, "CORRAL_DATA")
    return replace(part, path=target)


def _linked(source: Path, target: Path) -> bool:
    try:
        # Whoever links content by its hash must not have it changed under another name.
        source.chmod(READ_ONLY)
        os.link(source, target)
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path, on_bytes: OnBytes) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            on_bytes(writer.tell())


def tame_file(name: str) -> str:
    """A file name that a manifest may hold; the ends of shards stay as llama.cpp wants them."""
    stem = Path(name).stem
    match = SHARD.match(stem)
    if match is None:
        return f"{_tame(stem)[:190]}.gguf"
    return f"{_tame(match['stem'])[:170]}-{match['index']}-of-{match['count']}.gguf"


def _tame(stem: str) -> str:
    return tame(stem).lstrip("_.-") or "model"


def hash_file(path: Path, on_bytes: OnBytes = lambda done: None, kind: str = "sha256") -> str:
    """The file's checksum; `kind` `git` is git's name for it as a blob."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size) if kind == "git" else hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            on_bytes(file.tell())
    return digest.hexdigest()


def write_manifest(fetched: Fetched, placed: list[Part], name: str, base: str) -> Manifest:
    """Write NAME.manifest.json beside the placed files. `name` and `base` may be empty: then they come
    from the first file's name and header."""
    local = describe([part.path for part in placed], name or None, base or None)
    hashes = {part.path.name: part.sha256 for part in placed}
    files = []
    for file in local.manifest.files:
        path = local.paths[file.name]
        about = {"sha256": hashes[file.name] or hash_file(path), "bytes": path.stat().st_size}
        files.append(file.model_copy(update=about))
    quant = fetched.source.get("quant") or RepoFile(files[0].name, 0).quant
    manifest = local.manifest.model_copy(
        update={
            "files": tuple(files),
            "source": {**fetched.source, "quant": quant},
            "licence": fetched.licence or local.manifest.licence,
        }
    )
    write(manifest, placed[0].path.parent)
    return manifest
