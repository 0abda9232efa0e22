"""Files of a running Corral, over HTTP, or of the local data directory: the same four questions."""

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from corral import settings as settings_module
from corral.cli.remote import CHUNK, Remote
from corral.errors import BadRequest
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.files.store import Files as Store

PATH = "/v1/files"
Json = dict[str, Any]


class Files(Protocol):
    """What `corral files` asks; a file is OpenAI's object."""

    def list(self, limit: int, purpose: str | None) -> list[Json]:
        """The newest files."""

    def add(self, path: Path, purpose: str) -> Json:
        """Keep a copy of a file of this machine."""

    def remove(self, file_id: str) -> Json:
        """Delete it."""

    def read(self, file_id: str, out: IO[bytes]) -> None:
        """Write its bytes to `out`."""


def connect(url: str, data_dir: Path | None, config: Path | None) -> Files:
    """The files of the Corral at `url`, else those of the local data directory."""
    settings = settings_module.load({"data_dir": data_dir}, config)
    return RemoteFiles(url, settings) if url else LocalFiles(settings)


def check_readable(path: Path, param: str = "file") -> None:
    """BadRequest unless it is a file that is not empty."""
    if not path.is_file():
        raise BadRequest(f"{path} is no file", param=param)
    if path.stat().st_size == 0:
        raise BadRequest(f"{path} is empty", param=param)


class LocalFiles:
    """Reads and writes the data directory itself; needs no running Corral."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list(self, limit: int, purpose: str | None) -> list[Json]:
        """The newest files."""
        from corral.files.schemas import file_object

        rows, _ = self._store().list(limit, purpose=purpose)
        return [file_object(row) for row in rows]

    def add(self, path: Path, purpose: str) -> Json:
        """Keep a copy."""
        from corral.files.schemas import file_object

        check_readable(path)
        row = self._store().add_local(path, filename=path.name, purpose=purpose)
        return file_object(row)

    def remove(self, file_id: str) -> Json:
        """Delete it."""
        row = self._store().delete(file_id)
        return {"id": row.id, "object": "file", "deleted": True}

    def read(self, file_id: str, out: IO[bytes]) -> None:
        """Write its bytes."""
        store = self._store()
        with store.path(store.get(file_id).id).open("rb") as source:
            while piece := source.read(CHUNK):
                out.write(piece)

    def _store(self) -> "Store":
        from corral.files.store import Files as Store

        return Store(self._settings)


class RemoteFiles:
    """Asks a running Corral."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._remote = Remote(url, settings)

    def list(self, limit: int, purpose: str | None) -> list[Json]:
        """The newest files."""
        query = f"?limit={limit}" + (f"&purpose={purpose}" if purpose else "")
        data: list[Json] = self._remote.ask("GET", PATH + query)["data"]
        return data

    def add(self, path: Path, purpose: str) -> Json:
        """Send it there."""
        check_readable(path)
        return self._remote.upload(path, purpose)

    def remove(self, file_id: str) -> Json:
        """Delete it."""
        return self._remote.ask("DELETE", f"{PATH}/{file_id}")

    def read(self, file_id: str, out: IO[bytes]) -> None:
        """Write its bytes."""
        self._remote.download(f"{PATH}/{file_id}/content", out)
