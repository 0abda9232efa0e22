"""The keys as a running gateway knows them: in memory, and at most a second behind the database.

While the database is locked or away serving goes on with the keys last known. Once a key has been made
nobody is let in without one, also when it is revoked or has expired, until no key is listed any more.
"""

import asyncio
import contextlib
import functools
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from sqlalchemy import RowMapping

from corral.caller import ANYBODY, Caller
from corral.errors import CorralError, RateLimited, StoreError
from corral.keys.limits import Header, Limits, Terms
from corral.keys.store import Changes, Keys, digest
from corral.keys.usage import FLUSH_SECONDS, Ledger, spent
from corral.settings import Settings

logger = logging.getLogger("corral.keys")

# Twice a second, so that a change is seen within one.
REFRESH_SECONDS = 0.5


class Account:
    """One key's: who it is, what it may still ask, where its use is counted. Lean: there may be
    thousands."""

    __slots__ = ("_ledger", "caller", "digest", "expires_at", "limits")

    def __init__(
        self,
        caller: Caller,
        ledger: Ledger,
        digest: bytes = b"",
        limits: Limits | None = None,
        expires_at: float | None = None,
    ) -> None:
        self.caller, self.digest = caller, digest
        self.limits, self.expires_at = limits, expires_at
        self._ledger = ledger

    def enter(self) -> float:
        """A request for inference begins: what to give to `leave`. Raises RateLimited, and counts it."""
        if self.limits is None:
            return 0.0
        try:
            return self.limits.enter(time.monotonic())
        except RateLimited:
            self._ledger.add(self.caller.id, "", (1, 1, 0, 0, 0))
            raise

    def leave(
        self, entered: float, model: str, failed: bool, prompt: int, cached: int, generated: int
    ) -> None:
        """It has ended, however it did, and has used these tokens (`cached` of the prompt's)."""
        self._ledger.add(self.caller.id, model, (1, int(failed), prompt, cached, generated))
        if self.limits is not None:
            self.limits.leave(entered, prompt + generated, time.monotonic())

    def headers(self) -> list[Header]:
        """What is left, for the answer."""
        return self.limits.headers() if self.limits is not None else []


class Keyring:
    """Which key opens what. Reads the database once when it is made, then while it is `running`."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._keys = Keys(settings)
        self._given = _given(settings, ledger)
        self._limits: dict[str, Limits] = {}
        # Every key that is listed, those that are over included.
        self._digests: dict[str, bytes] = {}
        self._accounts = {account.digest: account for account in self._given}
        # How far it is, and from where the next changes are read: from the start where in doubt.
        self._version = self._since = -1
        self._refreshing = asyncio.Lock()
        # The hashes of keys that have opened something since the last change, of all that a request's key costs
        # nine tenths. Only of those that are right, so nobody can fill it.
        self._hashed: dict[bytes, bytes] = {}
        self.anybody = Account(ANYBODY, ledger)
        self._take(self._keys.changes(-1, ()))

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests) or bool(self._given) or not self._settings.is_loopback

    def find(self, secret: bytes) -> Account | None:
        """The account that this key opens now."""
        # Looked up by a hash that nobody can steer without the key; compared in constant time.
        sent = self._hashed.get(secret) or digest(secret)
        account = self._accounts.get(sent)
        if account is None or not hmac.compare_digest(account.digest, sent):
            return None
        self._hashed[secret] = sent
        if account.expires_at is not None and account.expires_at <= time.time():
            return None
        return account

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the database inside the block and stores the usage, the rest of it at the end."""
        ending = asyncio.Event()
        tasks = [
            asyncio.create_task(_every(REFRESH_SECONDS, self.refresh, ending), name="keys"),
            asyncio.create_task(_every(FLUSH_SECONDS, self.flush, ending), name="usage"),
        ]
        try:
            yield
        finally:
            # Not cancelled: what is being stored must be stored, or put back.
            ending.set()
            await asyncio.gather(*tasks)
            try:
                await self._ledger.flush()
            except CorralError as error:
                logger.error(
                    "the usage since the last time it was stored is lost: %s", error.message
                )

    async def refresh(self) -> None:
        """Take over what has changed. CorralError: the keys are those last known."""
        async with self._refreshing:
            found = await asyncio.to_thread(self._changed)
            if found is not None:
                self._take(found)

    async def flush(self) -> None:
        """Store the usage, and learn what other gateways have stored for keys with a budget."""
        await self._ledger.flush()
        ids = [id for id, limits in self._limits.items() if limits.terms.budget is not None]
        if ids:
            stored = await asyncio.to_thread(spent, self._settings, ids)
            for id in ids:
                if id in self._limits:
                    self._limits[id].spent = stored.get(id, 0) + self._ledger.tokens(id)

    def _changed(self) -> Changes | None:
        version = self._keys.version()
        if version < self._version:
            self._since = -1
            # Gone, or another one in its place. Not the same as no keys: that would open the door.
            raise StoreError("the database of the keys is gone; they are those last known")
        if version == self._version == self._since:
            return None
        return self._keys.changes(self._since, self._digests)

    def _take(self, found: Changes) -> None:
        self._hashed.clear()
        if found.left is not None:
            for id in self._digests.keys() - found.left:
                self._accounts.pop(self._digests.pop(id), None)
                self._limits.pop(id, None)
        for row in found.rows:
            self._take_one(row, found.spent.get(row["id"], 0))
        self._version = self._since = found.version

    def _take_one(self, row: RowMapping, spent: int) -> None:
        id, digest = row["id"], bytes.fromhex(row["digest"])
        self._accounts.pop(digest, None)
        self._digests[id] = digest
        limits = self._limits.pop(id, None)
        if row["revoked"] is not None:
            return
        terms = Terms(row["rpm"], row["tpm"], row["budget"])
        if terms:
            self._limits[id] = limits = limits or Limits(terms, spent, time.monotonic())
        self._accounts[digest] = Account(
            _caller(row), self._ledger, digest, limits, row["expires_at"]
        )


def _caller(row: RowMapping) -> Caller:
    id, owner = row["id"], row["owner"]
    models = None if row["models"] is None else frozenset(row["models"])
    # Most keys own what they make, and have one of a few sets of scopes: kept once.
    return Caller(
        id, id if owner == id else owner, _scopes(*row["scopes"]), models, row["priority"]
    )


@functools.cache
def _scopes(*names: str) -> frozenset[str]:
    return frozenset(names)


def _given(settings: Settings, ledger: Ledger) -> list[Account]:
    """The accounts of the keys in the settings: of the house, with every scope."""
    found = [digest(key.get_secret_value().encode()) for key in settings.api_keys]
    return [Account(Caller(f"settings-{each.hex()[:8]}"), ledger, each) for each in found]


async def _every(
    seconds: float, action: Callable[[], Awaitable[None]], ending: asyncio.Event
) -> None:
    told = ""
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`, which makes a task: an idle gateway does little else than this.
            async with asyncio.timeout(seconds):
                await ending.wait()
        try:
            await action()
            told = ""
        except CorralError as error:
            if error.message != told:
                told = error.message
                logger.warning("keys and usage wait for the database: %s", told)
        # The edge of a task that must go on: who is let in hangs on it.
        except Exception:
            logger.exception("following the keys failed")
