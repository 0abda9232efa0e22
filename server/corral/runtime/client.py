"""Typed calls to llama-server, its router and its instances."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from corral.errors import NotReady, UpstreamError, UpstreamTimeout
from corral.runtime.command import HOST, Endpoint
from corral.runtime.connection import Connection
from corral.runtime.pool import CONNECT_SECONDS, Pool

CALL_SECONDS = 10
HEALTH_SECONDS = 2


# What the router says when models-max instances run and none is idle.
NO_ROOM = "model limit reached"


class NoRoom(UpstreamError):
    """The router would load a section, but as many run as may, and none is idle."""


@dataclass(frozen=True)
class Instance:
    """One section as the router sees it. `status`: unloaded, loading, loaded, sleeping. `port` is
    its instance's own; 0 where the router does not tell it."""

    section: str
    status: str
    failed: bool = False
    exit_code: int | None = None
    port: int = 0


class RouterClient:
    """Calls to the router. Use as an async context manager; one per process."""

    def __init__(self, upstream_timeout: float) -> None:
        self._upstream_timeout = upstream_timeout
        self._session: aiohttp.ClientSession | None = None
        self._pool = Pool()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # A connection kept for the next call is looked at a hundred times a second by llama-server:
            # 5 ms of its CPU in each, for one call in a second.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()
        if self._session is not None:
            await self._session.close()

    async def healthy(self, endpoint: Endpoint) -> bool:
        """Whether the router answers. Short: a router that hangs counts as not healthy."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                async with self._open().get(endpoint.url + "/health") as response:
                    return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def instances(self, endpoint: Endpoint) -> list[Instance]:
        """Every section with its status."""
        body = await self._call(endpoint, "GET", "/models", None)
        return [_instance(item) for item in body.get("data", [])]

    async def load(self, endpoint: Endpoint, section: str) -> None:
        """Ask for `section` to be loaded; returns before it is ready. Raises NoRoom."""
        try:
            await self._call(endpoint, "POST", "/models/load", {"model": section})
        except UpstreamError as error:
            raise (NoRoom(error.message) if NO_ROOM in error.message else error) from error

    async def reload(self, endpoint: Endpoint) -> None:
        """Let the router read its presets again; returns when it has done what follows from them.

        A running section whose preset is the same runs on untouched, one whose preset is gone or
        changed is ended within its stop timeout, a new one is listed and not loaded.
        """
        await self._call(endpoint, "GET", "/models?reload=1", None)

    async def unload(self, endpoint: Endpoint, section: str) -> None:
        """Ask for `section` to be unloaded once idle; its streams end after its stop timeout."""
        await self._call(endpoint, "POST", "/models/unload", {"model": section})

    @contextlib.asynccontextmanager
    async def events(self, endpoint: Endpoint) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Inside the block: what the router tells of its sections, as it happens, until it ends. Raises
        NotReady when it breaks off, UpstreamError when it refuses."""
        headers = {"Authorization": f"Bearer {endpoint.key}"}
        url = endpoint.url + "/models/sse"
        try:
            async with self._open().get(url, headers=headers) as response:
                if response.status != 200:
                    raise UpstreamError(f"llama-server refused /models/sse: {response.status}")
                yield _events(response.content)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotReady(f"llama-server ended its events: {error}") from error

    async def post(self, endpoint: Endpoint, path: str, body: bytes, *, stream: bool) -> Connection:
        """Send `body` to `path` and return once the head of the answer is there. The caller ends it.

        An instance ends a connection after a stream, unannounced, and the next request would be lost on it
        (6 of 320 were). So another one is opened meanwhile: the next stream need not wait for it.
        Raises NotReady when nothing listens (nothing was sent), UpstreamTimeout, UpstreamError.
        """
        try:
            connection = await self._pool.take(endpoint.port)
        except OSError as error:
            raise NotReady("llama-server is not listening; it is being restarted") from error
        connection.ask(_request(endpoint, path, body), self._upstream_timeout, last=stream)
        if stream:
            self._pool.spare(endpoint.port)
        try:
            await connection.head()
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"llama-server sent nothing for {self._upstream_timeout:g} s "
                "(setting `upstream_timeout`)"
            ) from error
        except ConnectionError as error:
            raise UpstreamError(
                "llama-server ended before it answered; it is being restarted, try again",
                headers={"Retry-After": "1"},
            ) from error
        except asyncio.CancelledError:
            connection.close()
            raise
        return connection

    async def _call(
        self, endpoint: Endpoint, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {endpoint.key}"}
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer, status = await self._exchange(method, endpoint.url + path, body, headers)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotReady(f"llama-server did not answer {method} {path}: {error}") from error
        if status != 200:
            detail = answer.get("error", {}).get("message", answer)
            raise UpstreamError(f"llama-server refused {method} {path}: {detail}")
        return answer

    async def _exchange(
        self, method: str, url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[dict[str, Any], int]:
        async with self._open().request(method, url, json=body, headers=headers) as response:
            return await response.json(content_type=None), response.status

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("RouterClient is used outside its `async with`")
        return self._session


def _request(endpoint: Endpoint, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{endpoint.port}\r\nAuthorization: Bearer {endpoint.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _events(lines: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith(b"data: "):
            with contextlib.suppress(ValueError):
                yield json.loads(line.removeprefix(b"data: "))


def _instance(item: Mapping[str, Any]) -> Instance:
    status = item.get("status", {})
    return Instance(
        section=str(item.get("id", "")),
        status=str(status.get("value", "unloaded")),
        failed=bool(status.get("failed", False)),
        exit_code=status.get("exit_code"),
        port=_port(status.get("args", [])),
    )


def _port(args: list[str]) -> int:
    """The value of `--port` in an instance's command line."""
    value = args[args.index("--port") + 1] if "--port" in args[:-1] else ""
    return int(value) if value.isdigit() else 0
