"""Trying again: which failures may pass, how long to wait, when to give up."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TypeVar

import msgspec

from corral.errors import UpstreamError

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
T = TypeVar("T")


class Passing(Exception):
    """A try failed in a way that may pass. `wait` is how long the server asked us to stay away."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class Patience(msgspec.Struct, frozen=True):
    """How often and how long to try: waits of `first` seconds, doubled up to `longest`, each
    shortened at random by up to half so that clients do not come back together. A server that
    asks for more than `most` seconds is not waited for."""

    tries: int = 7
    first: float = 0.5
    longest: float = 30
    most: float = 300

    def wait(self, failures: int, asked: float | None, random: Random) -> float:
        """Seconds to wait after this many failures in a row."""
        own = min(self.longest, self.first * 2.0 ** (failures - 1)) * random.uniform(0.5, 1)
        return own if asked is None else max(asked, 0)


def persist(
    attempt: Callable[[], T],
    what: str,
    *,
    patience: Patience,
    sleep: Callable[[float], None],
    random: Random,
    report: Callable[[str], None] = lambda message: None,
) -> T:
    """Call `attempt` until it returns. Raises UpstreamError when patience is at its end."""
    for failures in range(1, patience.tries + 1):
        try:
            return attempt()
        except Passing as passing:
            reason = passing.reason
            wait = patience.wait(failures, passing.wait, random)
            if wait > patience.most:
                raise UpstreamError(
                    f"{what}: {reason}; the server asks to wait {wait:.0f} s, more than the "
                    f"{patience.most:.0f} s that are waited for; run again with --resume later"
                ) from None
        if failures < patience.tries:
            report(f"{what}: {reason}; trying again in {wait:.1f} s")
            sleep(wait)
    raise UpstreamError(
        f"{what}: {reason}, {patience.tries} times; run again with --resume to go on from here"
    )


def asked_wait(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date. None when it says neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except ValueError:
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
    return max(0.0, seconds) if math.isfinite(seconds) else None
