"""Bytes on disk: a file appears under its id whole and on disk, or not at all.

    files/file-…        the files        files/parts/part_…    parts of uploads that go on
    files/tmp/…         what is being received

Who writes a temporary file holds its lock (flock), which the kernel drops when the process dies: one
that can be locked belongs to nobody. Who names a file holds the folder's lock, shared, until the row
is committed; who removes holds it alone, so a file that no row names then is left over. Does not
cover: file systems without flock.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from corral.errors import CorralError, DiskFullError, StoreError
from corral.registry.blobs import READ_ONLY, BlobStore
from corral.registry.disk import sync_folder

TEMPORARY = "tmp"
PARTS = "parts"
LOCK = "lock"


class FileDisk:
    """The folder `files` of a data directory. Makes folders only when it writes."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.root = data_dir / "files"

    def path(self, id: str) -> Path:
        """Where the bytes of a file or of a part are. `id` must come from a row, not from a client."""
        return (self.root / PARTS if id.startswith("part_") else self.root) / id

    def incoming(self) -> "Incoming":
        """A temporary file to write into. Close it, whatever happens."""
        with self.told():
            for folder in (self.root, self.root / TEMPORARY, self.root / PARTS):
                folder.mkdir(parents=True, exist_ok=True)
            return Incoming(self)

    def check_space(self, needed: int) -> None:
        """Raise DiskFullError unless `needed` bytes, and some to spare, are free."""
        BlobStore(self._data_dir).check_space(needed)

    def remove(self, id: str) -> None:
        """Remove the bytes of a row that is gone; those who read them read on."""
        with self.told():
            self.path(id).unlink(missing_ok=True)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Held while a file is named and its row written; many may hold it."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Held while rows and files go; nobody names one meanwhile."""
        with self._locked(fcntl.LOCK_EX):
            yield

    def named(self) -> list[Path]:
        """The files and parts that there are, each called by its id."""
        return [*_files(self.root, "file-*"), *_files(self.root / PARTS, "part_*")]

    def sweep_temporary(self) -> list[tuple[Path, int]]:
        """Remove the temporary files that nobody writes any more; which, and their bytes."""
        found = ((path, _removed(path)) for path in _files(self.root / TEMPORARY, "*"))
        return [(path, size) for path, size in found if size is not None]

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with self.told():
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what the disk says into errors that say what to do."""
        try:
            yield
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> CorralError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return DiskFullError(
                f"the disk of {self.root} is full ({error.strerror}); delete files that are no longer "
                "needed, or set CORRAL_DATA to a larger disk",
                param="file",
            )
        return StoreError(
            f"{error.filename or self.root} cannot be used: {error.strerror}; the folder must be "
            "writable, or set CORRAL_DATA to one that is",
            param="file",
        )


class Incoming:
    """One file as it arrives: counted, hashed, locked. Safe to close while another thread writes."""

    def __init__(self, disk: FileDisk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._sha256 = hashlib.sha256()
        self.path, self._handle = _make(disk.root / TEMPORARY)
        self._named = False
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        return self._sha256.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; blocks for as long as the disk takes."""
        with self._lock, self._disk.told():
            if self._handle < 0:
                raise StoreError(f"{self.path} is closed")
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            self._sha256.update(data)
            self.bytes += len(data)

    def flush(self) -> None:
        """Bring what was written to the disk itself."""
        with self._disk.told():
            os.fchmod(self._handle, READ_ONLY)
            os.fsync(self._handle)

    def name(self, id: str) -> None:
        """Give it the place of this id; on disk when it returns. `flush` must have been called."""
        target = self._disk.path(id)
        with self._disk.told():
            os.replace(self.path, target)
            self.path, self._named = target, True
            sync_folder(target.parent)

    def close(self) -> None:
        """Let go of it; what was not named is removed."""
        with self._lock:
            if self._handle < 0:
                return
            if not self._named:
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _removed(path: Path) -> int | None:
    """Remove a temporary file unless somebody writes it; its bytes, None when it is still there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        return os.fstat(handle).st_size
    except BlockingIOError:
        return None
    finally:
        os.close(handle)


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _make(folder: Path) -> tuple[Path, int]:
    """A new locked file. A sweep between its making and its locking removes it: then another one."""
    while True:
        path = folder / secrets.token_hex(12)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(handle)
            raise
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)
