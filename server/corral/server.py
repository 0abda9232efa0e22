"""Run the application under uvicorn, and end it in order.

On SIGTERM or Ctrl-C no new connection is taken; what runs has half of `stop_timeout` to finish and
gets an error event then; llama-server is ended after that. Workers give their jobs back meanwhile. A second
Ctrl-C ends everything at once.
"""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from corral import log
from corral.app import create_app
from corral.gateway import protocol
from corral.gateway.deps import Gateway
from corral.jobs.child import WorkerChildren
from corral.keys.keyring import Keyring
from corral.registry.catalog import Catalog
from corral.settings import Settings

# Beyond the streams' grace: for the error events to go out and connections to close.
CLOSING_SECONDS = 1
POLL_SECONDS = 0.05
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings, catalog: Catalog, listener: socket.socket) -> None:
    """Serve on `listener` until told to stop. What must hold first: `corral.preflight`."""
    log.setup(settings.log_level)
    protocol.check()
    _warn(catalog)
    app = create_app(settings, catalog)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=protocol.TimedProtocol.with_timeouts(settings.header_timeout, settings.stall_timeout),
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=int(settings.stop_timeout / 2 + CLOSING_SECONDS),
        server_header=False,
        # Nothing asks where a request came from, nor whether it was by TLS.
        proxy_headers=False,
        date_header=False,
        lifespan="on",
        ws="none",
    )
    # What has been imported lives as long as the process: the collector need not look at it again,
    # neither under load nor at the end.
    gc.freeze()
    Server(config, app, listener).run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn's server that announces readiness and lets streams end with an error event."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, listener: socket.socket) -> None:
        super().__init__(config)
        app.state.own_server = True
        self._gateway: Gateway = app.state.gateway
        self._keyring: Keyring = app.state.keyring
        self._listener = listener
        self._announcement: asyncio.Task[None] | None = None
        self._workers = WorkerChildren.of(self._gateway.settings)
        self._signalled = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the server in order, with status 0; uvicorn would raise the signal
        again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's, and the main loop is told. Called by Python as a signal comes."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            # Also wakes a loop that sleeps: a signal alone wakes only some.
            self._loop.call_soon_threadsafe(self._signalled.set)

    async def main_loop(self) -> None:
        """Until a signal comes. uvicorn's own looks for one ten times a second, 2 ms of CPU in each."""
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        if not self.should_exit:
            await self._signalled.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell on stderr when the first request can be served."""
        await super().startup(sockets)
        self._workers.start()
        self._announcement = asyncio.create_task(self._announce())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, break off what has not finished in time, end workers and llama-server."""
        if self._announcement is not None:
            self._announcement.cancel()
        grace = self._gateway.settings.stop_timeout / 2
        last_call = asyncio.get_running_loop().call_later(grace, self._gateway.stopping.set)
        workers = asyncio.create_task(asyncio.to_thread(self._workers.stop))
        try:
            await super().shutdown(sockets)
        finally:
            last_call.cancel()
            await workers

    async def _announce(self) -> None:
        told = ""
        state = await self._gateway.runtime.readiness()
        while not state.ready:
            if state.failed and state.reason != told:
                told = state.reason
                print(f"corral: not ready: {told}", file=sys.stderr, flush=True)
            await asyncio.sleep(POLL_SECONDS)
            state = await self._gateway.runtime.readiness()
        banner = _banner(self._gateway, self._listener, self._keyring.closed)
        print(banner, file=sys.stderr, flush=True)


def _banner(gateway: Gateway, listener: socket.socket, closed: bool) -> str:
    host, port = listener.getsockname()[:2]
    here = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    url = "http://" + (gateway.settings.published or here)
    names = gateway.catalog.names()
    model = gateway.settings.default_model
    example = model if model in names or not names else names[0]
    key = " -H 'Authorization: Bearer YOUR_KEY'" if closed else ""
    return (
        f"\nCorral serves {url}/v1  (docs: {url}/docs)\n"
        f"models: {', '.join(names) or 'none'}\n"
        f"try:    curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\\n"
        f'          -d \'{{"model":"{example}","messages":[{{"role":"user","content":"Hello"}}]}}\'\n'
        "stop:   Ctrl-C\n"
    )


def _warn(catalog: Catalog) -> None:
    for problem in catalog.problems:
        print(f"corral: not served: {problem.message}", file=sys.stderr)
