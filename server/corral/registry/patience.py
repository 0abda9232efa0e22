"""Ask a server again when that can help, and wait as long as it says.

429 waits for Retry-After, 408, 5xx and broken connections back off (1, 2, 4 … 30 s); any other
status is final. What has brought bytes does not count as a failure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from corral.errors import CorralError

ATTEMPTS = 5
LONGEST_WAIT = 600.0  # a server that asks for more is not waited for
LONGEST_BACKOFF = 30.0
T = TypeVar("T")


class BrokenOff(Exception):
    """A download ended before its last byte, for a reason that may pass."""


def _silent(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Patience:
    """How often to ask, whom to tell of a wait (one line), how to wait."""

    attempts: int = ATTEMPTS
    tell: Callable[[str], None] = _silent
    wait: Callable[[float], None] = time.sleep

    def ask(
        self,
        action: Callable[[], T],
        explain: Callable[[Exception], CorralError],
        have: Callable[[], int] = lambda: 0,
    ) -> T:
        """What `action` returns. After `attempts` failures in a row in which `have` (bytes) did not
        grow, or one that is final, raises what `explain` makes of it."""
        failures, best = 0, have()
        while True:
            try:
                return action()
            except (httpx2.HTTPError, HfHubHTTPError, BrokenOff) as error:
                failures, best = (1, have()) if have() > best else (failures + 1, best)
                known, pause = explain(error), pause_before_retry(error, failures)
                if pause is None or pause > LONGEST_WAIT or failures >= self.attempts:
                    raise known from error
                self.tell(f"{known.message.split('; ')[0]}; asking again in {pause:.0f} s")
                self.wait(pause)


def pause_before_retry(error: Exception, failures: int) -> float | None:
    """Seconds before asking again can help; None when it cannot."""
    backoff = min(2.0 ** (failures - 1), LONGEST_BACKOFF)
    if not isinstance(error, HfHubHTTPError):
        return backoff
    status = error.response.status_code
    if status == 429:
        asked = retry_after(error.response.headers.get("Retry-After", ""))
        return backoff if asked is None else asked
    return backoff if status >= 500 or status == 408 else None


def retry_after(value: str) -> float | None:
    """Seconds from now, of either form of Retry-After; None when it has none."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
