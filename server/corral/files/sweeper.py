"""Sweeps the store of files while an application runs: at its start, then every hour."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral.errors import CorralError
from corral.files.store import Files

log = logging.getLogger("corral.files")

EVERY_SECONDS = 3600.0


@asynccontextmanager
async def sweeping(files: Files, every: float = EVERY_SECONDS) -> AsyncIterator[None]:
    """Sweep in the background; a store that cannot be written now is told in the log only."""
    task = asyncio.create_task(_sweep(files, every))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _sweep(files: Files, every: float) -> None:
    while True:
        try:
            removed = await asyncio.to_thread(files.sweep)
        except CorralError as error:
            log.warning("files are not swept: %s", error.message)
        else:
            if removed:
                log.info("swept %d leftover or expired files", len(removed))
        await asyncio.sleep(every)
