"""Files written whole or not at all."""

import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from corral.errors import InvalidData


class Writer(ABC):
    """Rows into one file. It appears at `path` on `commit`; leaving the `with` without it discards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        except OSError as error:
            raise InvalidData(
                f"cannot write {path}: {error.strerror}; choose a folder you may write to",
                param=str(path),
            ) from None
        self.temporary = Path(name)
        # mkstemp makes files that only the owner reads; a dataset has no such secret.
        os.fchmod(handle, 0o644)
        self.file: IO[bytes] = os.fdopen(handle, "wb", buffering=1 << 20)

    @abstractmethod
    def write(self, value: dict[str, Any]) -> bool:
        """Add a row; False, with a finding, when the container cannot hold it."""

    def finish(self) -> None:
        """Write what follows the last row."""

    def commit(self) -> None:
        """Put the finished file in place, replacing one that is there."""
        self.finish()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.temporary.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        self.temporary.unlink(missing_ok=True)
