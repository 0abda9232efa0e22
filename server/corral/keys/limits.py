"""How much one key may ask: requests and tokens a minute, tokens in all. Pure; one event loop's.

A minute is a bucket that holds a minute's worth and fills steadily: a key that was quiet may use it all
at once, and never more than two minutes' worth within one. How many tokens a request takes is known when
it has been answered; until then it counts as the mean of the last ones, so that many at once cannot pass
unseen. What it took beyond that the next ones wait for. The counts are of this process and begin anew with
it; the budget is of the database.
"""

import math
from dataclasses import dataclass

from corral.errors import RateLimited

MINUTE = 60.0
# Of the mean of a request's tokens: how much one more of them counts.
NEW_SHARE = 0.1

Header = tuple[bytes, bytes]


class Bucket:
    """`size` a minute. May go below zero: then nothing passes until it has filled again."""

    __slots__ = ("_at", "_level", "_rate", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self._rate = size / MINUTE
        self._level, self._at = float(size), now

    def level(self, now: float) -> float:
        """What may still be taken."""
        self._level = min(float(self.size), self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Take so much, after `level`."""
        self._level -= amount

    def seconds_until(self, level: float) -> float:
        """How long until it holds so much."""
        return max(0.0, level - self._level) / self._rate


@dataclass(frozen=True, slots=True)
class Terms:
    """What a key was made with; None: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    budget: int | None = None

    def __bool__(self) -> bool:
        return not (self.rpm is None and self.tpm is None and self.budget is None)


class Limits:
    """One key's. `spent` are the tokens used with it so far, wherever."""

    __slots__ = ("_expected", "_mean", "_requests", "_tokens", "spent", "terms")

    def __init__(self, terms: Terms, spent: int, now: float) -> None:
        self.terms = terms
        self.spent = spent
        self._requests = Bucket(terms.rpm, now) if terms.rpm else None
        self._tokens = Bucket(terms.tpm, now) if terms.tpm else None
        self._mean = 0.0
        self._expected = 0.0

    def enter(self, now: float) -> float:
        """Let a request in: the tokens it is expected to take, for `leave`. Raises RateLimited."""
        budget, requests, tokens = self.terms.budget, self._requests, self._tokens
        if budget is not None and self.spent + self._expected >= budget:
            raise _out_of_budget(budget, self.spent)
        if requests is not None and requests.level(now) < 1:
            raise self._too_many(requests.seconds_until(1), requests.size, "requests", "rpm")
        if tokens is not None and tokens.level(now) - self._expected <= 0:
            wait = tokens.seconds_until(self._expected + 1)
            raise self._too_many(wait, tokens.size, "tokens", "tpm")
        if requests is not None:
            requests.take(1)
        self._expected += self._mean
        return self._mean

    def leave(self, expected: float, took: int, now: float) -> None:
        """A request that was let in has ended and took so many tokens."""
        self._expected = max(0.0, self._expected - expected)
        if took:
            self._mean += NEW_SHARE * (took - self._mean) if self._mean else took
        self.spent += took
        if self._tokens is not None:
            self._tokens.level(now)
            self._tokens.take(took)

    def headers(self) -> list[Header]:
        """What is left, in the words of OpenAI's API; as of the last `enter` or `leave`."""
        found = _left(self._requests, b"requests", 0.0)
        return found + _left(self._tokens, b"tokens", self._expected)

    def _too_many(self, wait: float, size: int, what: str, name: str) -> RateLimited:
        seconds = max(1, math.ceil(wait))
        told = {key.decode(): value.decode() for key, value in self.headers()}
        return RateLimited(
            f"this API key may use {size} {what} a minute (`{name}`); try again in {seconds} s",
            headers={"Retry-After": str(seconds), **told},
        )


def _left(bucket: Bucket | None, what: bytes, expected: float) -> list[Header]:
    if bucket is None:
        return []
    left = max(0, math.floor(bucket._level - expected))
    reset = math.ceil(bucket.seconds_until(bucket.size))
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % bucket.size),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, b"%ds" % reset),
    ]


def _out_of_budget(budget: int, spent: int) -> RateLimited:
    return RateLimited(
        f"this API key has used its budget: {spent} of {budget} tokens; ask the administrator of this "
        "server for another key",
        code="insufficient_quota",
        # Waiting does not help, and SDKs would.
        headers={"x-should-retry": "false"},
    )
