"""/corral/v1/keys and /corral/v1/usage, for administrators. Thin: the store does the work."""

import asyncio
import contextlib
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from corral.errors import CorralError
from corral.keys.keyring import Keyring
from corral.keys.schemas import (
    Day,
    DeletedKey,
    KeyRequest,
    RotateRequest,
    ShownKey,
    ShownSecret,
    UsageList,
    UsageQuery,
    key_object,
)
from corral.keys.store import Key, Keys
from corral.keys.usage import read
from corral.openapi import Page
from corral.pages import page
from corral.settings import Settings

# The answer holds a secret: nothing between may keep it.
SECRET_HEADERS = {"cache-control": "no-store"}


class KeyRoutes:
    """The endpoints over the keys of one data directory; `keyring` sees a change made here at once."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings, self._keyring = settings, keyring
        self._keys = Keys(settings)

    def router(self) -> APIRouter:
        """The router to include in the application."""
        made = APIRouter(prefix="/corral/v1", tags=["keys"])
        for method, path, route, answer in (
            ("POST", "/keys", self.create, ShownSecret),
            ("GET", "/keys", self.list_keys, Page[ShownKey]),
            ("GET", "/keys/{key_id}", self.retrieve, ShownKey),
            ("DELETE", "/keys/{key_id}", self.forget, DeletedKey),
            ("POST", "/keys/{key_id}/revoke", self.revoke, ShownKey),
            ("POST", "/keys/{key_id}/rotate", self.rotate, ShownSecret),
            ("GET", "/usage", self.usage, UsageList),
        ):
            made.add_api_route(path, route, methods=[method], response_model=answer)
        return made

    async def create(self, request: KeyRequest) -> Response:
        """Make a key. The answer's `key` is the secret: it is shown here and never again."""
        return await self._shown_once(await asyncio.to_thread(self._keys.create, request))

    async def list_keys(self) -> Response:
        """Every key, the newest first, with the tokens used so far."""
        found = await asyncio.to_thread(self._keys.list)
        return JSONResponse(page([key_object(key) for key in found], False))

    async def retrieve(self, key_id: str) -> Response:
        """One key."""
        return JSONResponse(key_object(await asyncio.to_thread(self._keys.get, key_id)))

    async def revoke(self, key_id: str) -> Response:
        """Let a key open nothing any more; asking again changes nothing."""
        gone = await asyncio.to_thread(self._keys.revoke, key_id)
        await self._keyring.refresh()
        return JSONResponse(key_object(gone))

    async def forget(self, key_id: str) -> Response:
        """Revoke a key and strike it from the list; its usage stays."""
        await asyncio.to_thread(lambda: self._keys.revoke(key_id, forget=True))
        await self._keyring.refresh()
        return JSONResponse({"id": key_id, "object": "corral.key", "deleted": True})

    async def rotate(self, key_id: str, request: RotateRequest | None = None) -> Response:
        """A second key like this one, which ends `keep_seconds` from now (an hour, unless said)."""
        keep = (request or RotateRequest()).keep_seconds
        return await self._shown_once(await asyncio.to_thread(self._keys.rotate, key_id, keep))

    async def usage(
        self,
        key: str | None = None,
        model: str | None = None,
        since: Day | None = None,
        until: Day | None = None,
    ) -> Response:
        """What was used, by key, model and day (UTC), the newest first."""
        with contextlib.suppress(CorralError):  # what is not yet in the database comes later
            await self._keyring.flush()
        query = UsageQuery(key=key, model=model, since=since, until=until)
        rows = await asyncio.to_thread(read, self._settings, query)
        return JSONResponse({"object": "list", "data": rows, "has_more": False})

    async def _shown_once(self, made: tuple[Key, str]) -> Response:
        await self._keyring.refresh()
        body: dict[str, Any] = {**key_object(made[0]), "key": made[1]}
        return JSONResponse(body, headers=SECRET_HEADERS)
