"""Writing files so that a kill or a full disk leaves the old one or the new one; a full disk is said."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corral.errors import DiskFullError
from corral.registry.disk import nearest, write_whole

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def room(place: Path) -> Iterator[None]:
    """Turn "no space left" inside the block into DiskFullError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        free = shutil.disk_usage(nearest(place)).free
        raise DiskFullError(
            f"no space left while writing {place} ({free:,} bytes free there); make room and start "
            "again: what was finished before is kept"
        ) from error


def write(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all; it is on the disk when this returns."""
    with room(path):
        write_whole(path, data)
