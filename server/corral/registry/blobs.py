"""Files by content: `blobs/sha256/ab/abcd…`, and the shelf, where each artifact's files have the
names that llama.cpp wants.

A blob appears under its name whole and on disk, or not at all: temporary name, hash, fsync, link,
fsync of the folder. Adders hold the lock shared from the first blob to the database's commit; the
collector holds it alone, so whatever no row names then is garbage. Blobs are read-only files; on the
shelf they are hard links (copies where the file system has none). Does not cover: a disk that loses
what fsync promised, a program that writes into a blob as root (`corral models verify` finds it).
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corral.errors import Conflict, CorralError, DiskFullError, InvalidModel, StoreError
from corral.registry.disk import (
    CHUNK,
    OnBytes,
    hash_of,
    ignore,
    make_folder,
    nearest,
    sync_file,
    sync_folder,
)

READ_ONLY = 0o444
# Left free on the disk beyond what is added: logs and the database need some.
SPARE_BYTES = 64 * 1024 * 1024
# What link(2) says where a file system has no hard links, or has enough of them.
NO_LINK = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
OWNER_FILE = "database-id"

# Called with a step's name right after it; tests stop a process there.
AtStep = Callable[[str], None]


class BlobStore:
    """Blobs and shelf under `root`, the data directory. Makes folders only when it writes."""

    def __init__(self, root: Path, at_step: AtStep = ignore) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.incoming = self.blobs / "tmp"
        self.shelf = root / "shelf"
        self._at_step = at_step

    def path(self, sha256: str) -> Path:
        """Where the blob with this hash is, if it is there."""
        return self.blobs / "sha256" / sha256[:2] / sha256

    def put(
        self, source: Path, *, move: bool = False, sha256: str = "", on_bytes: OnBytes = ignore
    ) -> tuple[str, int]:
        """Make `source` a blob; its hash and size. Call it under `adding`.

        `sha256`, when given, must be the hash. With `move` the blob is a hard link to `source` where
        that can be, and the caller deletes `source` once the artifact is registered: until then
        nothing is lost if the process dies.
        """
        with self._told(source):
            if move or (sha256 and self.path(sha256).exists()):
                found = hash_of(source, on_bytes)
                _expect(source, sha256, found)
                if self._has(found, source) or (move and self._linked(source, found)):
                    return found, self.path(found).stat().st_size
            return self._copied(source, sha256, on_bytes)

    def check_space(self, needed: int) -> None:
        """Raise DiskFullError unless `needed` bytes, and some to spare, are free."""
        if needed and self.free() < needed + SPARE_BYTES:
            raise _full(self.root, needed + SPARE_BYTES, self.free())

    def free(self) -> int:
        """Bytes free on the disk of the store."""
        return shutil.disk_usage(nearest(self.root)).free

    @contextmanager
    def adding(self, database_id: str) -> Iterator[None]:
        """Held while blobs are put and their artifact is registered; many may hold it."""
        with self._told(self.blobs):
            make_folder(self.blobs)
            self._claim(database_id)
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def collecting(self, database_id: str, *, wait: bool = True) -> Iterator[bool]:
        """Held while garbage is removed; nobody adds meanwhile. Gives False, and nothing is held,
        when somebody adds and `wait` is off, or when there is no store yet."""
        if not self.blobs.is_dir():
            yield False
            return
        with self._told(self.blobs):
            self._check_owner(database_id)
        with self._locked(fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)) as held:
            yield held

    def set_out(self, folder: str, files: dict[str, str]) -> None:
        """Make `shelf/<folder>` with these file names, each a blob by its hash."""
        place = self.shelf / folder
        with self._told(place):
            make_folder(place)
            self._at_step("shelf folder made")
            for name, sha256 in files.items():
                self._set_out_file(self.path(sha256), place / name)
                self._at_step("shelf file set out")
            sync_folder(place)
            self._at_step("shelf folder on disk")

    def take_in(self, folder: str) -> None:
        """Remove `shelf/<folder>`; the blobs stay."""
        with self._told(self.shelf / folder):
            _discard(self.shelf / folder)

    def garbage(self, folders: set[str], hashes: set[str]) -> Iterator[tuple[Path, int]]:
        """Everything that is neither one of these shelf folders nor one of these blobs, with the
        bytes that its removal frees. Only true under `collecting`."""
        for path in _children(self.incoming):
            yield path, _freed(path)
        for path in _children(self.shelf):
            if path.name not in folders:
                yield path, _freed(path)
        for group in _children(self.blobs / "sha256"):
            for path in _children(group):
                if path.name not in hashes:
                    yield path, path.stat().st_size

    def remove(self, path: Path) -> None:
        """Delete one thing that `garbage` gave."""
        with self._told(path):
            _discard(path)
            self._at_step("garbage removed")

    def _has(self, sha256: str, source: Path) -> bool:
        """Whether the blob is there; one of another size is not it but a torn one."""
        path = self.path(sha256)
        return path.exists() and path.stat().st_size == source.stat().st_size

    def _linked(self, source: Path, sha256: str) -> bool:
        """Try to make the blob a hard link to `source`. Not for a file that others name too and may
        write into; what a download cache keeps read-only is shared."""
        about = source.lstat()
        shared = about.st_nlink != 1 and about.st_mode & 0o222
        if not stat.S_ISREG(about.st_mode) or shared:
            return False
        sync_file(source)
        source.chmod(READ_ONLY)
        self._at_step("source on disk")
        return self._named(source, sha256)

    def _copied(self, source: Path, sha256: str, on_bytes: OnBytes) -> tuple[str, int]:
        size = source.stat().st_size
        self.check_space(size)
        make_folder(self.incoming)
        part = self.incoming / secrets.token_hex(8)
        try:
            found = self._write(source, part, on_bytes)
            _expect(source, sha256, found)
            part.chmod(READ_ONLY)
            self._at_step("blob written")
            if not self._has(found, source) and not self._named(part, found):
                os.replace(part, self.path(found))
                sync_folder(self.path(found).parent)
                self._at_step("blob named")
        finally:
            part.unlink(missing_ok=True)
        self._at_step("temporary removed")
        return found, size

    def _write(self, source: Path, part: Path, on_bytes: OnBytes) -> str:
        """Copy and hash in one go; on disk when it returns."""
        sha = hashlib.sha256()
        with source.open("rb") as reader, part.open("xb") as writer:
            self._at_step("temporary made")
            while chunk := reader.read(CHUNK):
                sha.update(chunk)
                writer.write(chunk)
                on_bytes(len(chunk))
            writer.flush()
            os.fsync(writer.fileno())
        return sha.hexdigest()

    def _named(self, file: Path, sha256: str) -> bool:
        """Give `file` the blob's name by a hard link; False where that cannot be done."""
        target = self.path(sha256)
        make_folder(target.parent)
        try:
            os.link(file, target)
        except FileExistsError:
            return self._has(sha256, file)  # another adder was first
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        sync_folder(target.parent)
        self._at_step("blob named")
        return True

    def _set_out_file(self, blob: Path, target: Path) -> None:
        try:
            os.link(blob, target)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            self.check_space(blob.stat().st_size)
            shutil.copyfile(blob, target)
            target.chmod(READ_ONLY)
            sync_file(target)

    def _claim(self, database_id: str) -> None:
        """Tie the blobs to the database that knows them."""
        file = self.blobs / OWNER_FILE
        if not file.exists():
            make_folder(self.incoming)
            part = self.incoming / secrets.token_hex(8)
            part.write_text(database_id)
            self._at_step("claim written")
            sync_file(part)
            with suppress(FileExistsError):
                os.link(part, file)
            part.unlink()
            sync_folder(self.blobs)
            self._at_step("store claimed")
        self._check_owner(database_id)

    def _check_owner(self, database_id: str) -> None:
        file = self.blobs / OWNER_FILE
        owner = file.read_text() if file.exists() else database_id
        if owner != database_id:
            raise Conflict(
                f"the files in {self.blobs} belong to another database: restore it, or set "
                "CORRAL_DATABASE_URL to it; to begin anew, move blobs/ and shelf/ away",
                param=str(self.blobs),
            )

    @contextmanager
    def _locked(self, how: int) -> Iterator[bool]:
        with self._told(self.blobs):
            handle = os.open(self.blobs / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            os.close(handle)
            yield False
            return
        try:
            yield True
        finally:
            os.close(handle)

    @contextmanager
    def _told(self, place: Path) -> Iterator[None]:
        """Turns what the disk says into errors that say what to do."""
        try:
            yield
        except OSError as error:
            raise self._explained(error, place) from error

    def _explained(self, error: OSError, place: Path) -> CorralError:
        where = error.filename or place
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(self.root, None, self.free())
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return StoreError(
                f"the store in {self.root} cannot be written: {where}: {error.strerror}; make it "
                "writable, or set CORRAL_DATA to a directory that is",
                param=str(self.root),
            )
        return StoreError(f"{where} cannot be used: {error.strerror}", param=str(where))


def _expect(source: Path, wanted: str, found: str) -> None:
    if wanted and wanted != found:
        raise InvalidModel(
            f"{source} has the sha256 {found}, not {wanted} as its manifest says; fetch or make it "
            "again",
            param=str(source),
        )


def _full(root: Path, needed: int | None, free: int) -> DiskFullError:
    need = f"{needed:,} bytes are needed, " if needed else ""
    return DiskFullError(
        f"the disk of {root} is full: {need}{free:,} are free; `corral models gc` and `corral "
        "models rm NAME` make room, or set CORRAL_DATA to a larger disk",
        param=str(root),
    )


def _discard(path: Path) -> None:
    """Remove a file or folder, also while another process removes the same."""
    while path.is_dir():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _freed(path: Path) -> int:
    """Bytes that vanish with `path`: a hard link frees nothing while the blob is there."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file() and f.stat().st_nlink == 1)
