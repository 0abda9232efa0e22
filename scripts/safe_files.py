"""Writing files so that a kill or a full disk leaves the old one or the new one, never half of one."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corral.errors import DiskFullError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def room(place: Path) -> Iterator[None]:
    """Turn "no space left" inside the block into DiskFullError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        folder = next(p for p in (place, *place.absolute().parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        raise DiskFullError(
            f"no space left while writing {place} ({free:,} bytes free there); make room and start "
            "again: what was finished before is kept"
        ) from error


def write(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all; it is on the disk when this returns."""
    part = path.with_name(path.name + ".part")
    with room(path):
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut; does nothing where folders cannot be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
