"""Connections to instances that wait for their next request. One event loop's."""

import asyncio

from corral.runtime.command import HOST
from corral.runtime.connection import Connection

# llama-server closes a connection that was idle for 5 s. Ours must go first, or a request could be
# written to a connection that is just being closed, with no way to tell whether it was read.
IDLE_SECONDS = 3
CONNECT_SECONDS = 5


class Pool:
    """Kept connections, by port."""

    def __init__(self) -> None:
        self._idle: dict[int, list[Connection]] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}

    async def take(self, port: int) -> Connection:
        """A connection to `port` that nobody uses. OSError when nothing listens there."""
        idle = self._idle.get(port, [])
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            connection.close()
        return await self._open(port)

    def spare(self, port: int) -> None:
        """See to it, in the background, that the next `take` need not wait for a connection.

        While it waits, 5 s at most, it holds an HTTP thread: one of the 256 of this one instance
        (`HTTP_THREADS`), which starts more when all are taken. 256 held for nothing made the first tokens of
        four streams 0.1 s later, eight made no difference.
        """
        if self._idle.get(port) or port in self._opening:
            return
        self._opening[port] = asyncio.create_task(self._open_spare(port))

    def close(self) -> None:
        """Drop every connection that waits."""
        for task in self._opening.values():
            task.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _open_spare(self, port: int) -> None:
        # Without a limit of time: whoever needs a connection meanwhile opens another.
        try:
            self._keep(port, await self._connect(port))
        except OSError:
            pass  # nobody was promised one
        finally:
            self._opening.pop(port, None)

    async def _open(self, port: int) -> Connection:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._connect(port)

    async def _connect(self, port: int) -> Connection:
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: Connection(lambda free: self._keep(port, free)), HOST, port
        )
        return made

    def _keep(self, port: int, connection: Connection) -> None:
        idle = self._idle.setdefault(port, [])
        while idle and not idle[0].usable:
            idle.pop(0)
        idle.append(connection)
