"""Files that are there whole or not at all, whatever kills the process or the machine; and their sums.

A name appears only once the bytes under it are on the disk: write under another name, flush, rename,
flush the folder. For the registry, the jobs and the stages alike.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

CHUNK = 4 * 1024 * 1024

# Called with the number of bytes just hashed.
OnBytes = Callable[[int], None]


def ignore(_: object) -> None:
    """The callback of those who want none."""


def hash_of(path: Path, on_bytes: OnBytes = ignore) -> str:
    """The sha256 of a file, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
            on_bytes(len(chunk))
    return sha.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` by way of `NAME.part` beside it; on the disk when it returns. What was there
    stays when it fails."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put_in_place(part: Path, final: Path) -> None:
    """Give a finished file its name, on the disk when it returns; what had the name is replaced."""
    sync_file(part)
    os.replace(part, final)
    sync_folder(final.parent)


def make_folder(folder: Path) -> None:
    """Make it and what is missing above it, on the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut; does nothing where folders cannot be
    opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def nearest(path: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
