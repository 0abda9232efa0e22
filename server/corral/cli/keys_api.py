"""Keys and usage of a running Corral, over HTTP, or of the local data directory: the same questions."""

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from corral import settings as settings_module
from corral.cli.remote import Remote
from corral.errors import BadRequest
from corral.settings import Settings

PATH, USAGE = "/corral/v1/keys", "/corral/v1/usage"
Json = dict[str, Any]
Rows = list[Json]


class Keys(Protocol):
    """What `corral keys` and `corral usage` ask; the answers are those of the API."""

    def create(self, request: Json) -> Json:
        """Make a key; it, with the secret as `key`."""

    def list(self) -> Rows:
        """Every key, the newest first."""

    def revoke(self, key_id: str, *, forget: bool) -> Json:
        """Let it open nothing any more."""

    def rotate(self, key_id: str, keep_seconds: float) -> Json:
        """A second key like it, with the secret as `key`."""

    def usage(self, query: dict[str, str]) -> Rows:
        """What was used, the newest day first."""


def connect(url: str, data_dir: Path | None, config: Path | None) -> Keys:
    """The keys of the Corral at `url`, else those of the local data directory."""
    settings = settings_module.load({"data_dir": data_dir}, config)
    return RemoteKeys(url, settings) if url else LocalKeys(settings)


class LocalKeys:
    """Reads and writes the database itself; a running Corral sees the change within a second."""

    def __init__(self, settings: Settings) -> None:
        from corral.keys.store import Keys as Store

        self._settings, self._store = settings, Store(settings)

    def create(self, request: Json) -> Json:
        """Make a key."""
        from pydantic import ValidationError

        from corral.keys.schemas import KeyRequest, key_object

        try:
            asked = KeyRequest.model_validate(request)
        except ValidationError as error:
            raise _explained(error) from None
        key, secret = self._store.create(asked)
        return {**key_object(key), "key": secret}

    def list(self) -> Rows:
        """Every key."""
        from corral.keys.schemas import key_object

        return [key_object(key) for key in self._store.list()]

    def revoke(self, key_id: str, *, forget: bool) -> Json:
        """End it."""
        from corral.keys.schemas import key_object

        return key_object(self._store.revoke(key_id, forget=forget))

    def rotate(self, key_id: str, keep_seconds: float) -> Json:
        """A second key like it."""
        from corral.keys.schemas import key_object

        key, secret = self._store.rotate(key_id, keep_seconds)
        return {**key_object(key), "key": secret}

    def usage(self, query: dict[str, str]) -> Rows:
        """What is stored."""
        from pydantic import ValidationError

        from corral.keys.schemas import UsageQuery
        from corral.keys.usage import read

        try:
            return read(self._settings, UsageQuery.of(**query))
        except ValidationError as error:
            raise _explained(error) from None


class RemoteKeys:
    """Asks a running Corral; CORRAL_API_KEYS must hold an administrator's key of it."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._remote = Remote(url, settings)

    def create(self, request: Json) -> Json:
        """Make a key."""
        return self._remote.ask("POST", PATH, request)

    def list(self) -> Rows:
        """Every key."""
        data: Rows = self._remote.ask("GET", PATH)["data"]
        return data

    def revoke(self, key_id: str, *, forget: bool) -> Json:
        """End it."""
        one = f"{PATH}/{quote(key_id, safe='')}"
        gone = self._remote.ask("POST", f"{one}/revoke")
        if forget:
            self._remote.ask("DELETE", one)
        return gone

    def rotate(self, key_id: str, keep_seconds: float) -> Json:
        """A second key like it."""
        path = f"{PATH}/{quote(key_id, safe='')}/rotate"
        return self._remote.ask("POST", path, {"keep_seconds": keep_seconds})

    def usage(self, query: dict[str, str]) -> Rows:
        """What was used."""
        path = USAGE + (f"?{urlencode(query)}" if query else "")
        data: Rows = self._remote.ask("GET", path)["data"]
        return data


def _explained(error: Any) -> BadRequest:
    """What the API would say."""
    first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    return BadRequest(f"`{param}`: {first['msg']}", param=param or None)
