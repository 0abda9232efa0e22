"""When a server is asked again, and how long is waited."""

import time
from email.utils import formatdate

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from corral.errors import CorralError, UpstreamError
from corral.registry.patience import BrokenOff, Patience, pause_before_retry, retry_after


def failure(status: int, **headers: str) -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://h/")
    return HfHubHTTPError("no", response=httpx2.Response(status, headers=headers, request=request))


def explain(error: Exception) -> CorralError:
    return UpstreamError(f"it said {error}; do something")


class Asked:
    """Fails with each of these in turn, then succeeds; the waits are kept."""

    def __init__(self, *errors: Exception, attempts: int = 3) -> None:
        self.errors = list(errors)
        self.waits: list[float] = []
        self.told: list[str] = []
        self.patience = Patience(attempts, self.told.append, self.waits.append)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_broken_connection_is_tried_again_after_growing_waits() -> None:
    asked = Asked(httpx2.ConnectError("gone"), BrokenOff("cut"))
    assert asked.patience.ask(asked, explain) == "done"
    assert asked.waits == [1, 2]
    assert asked.told == ["it said gone; asking again in 1 s", "it said cut; asking again in 2 s"]


def test_it_ends_after_so_many_failures_in_a_row() -> None:
    asked = Asked(*[BrokenOff("cut")] * 9)
    with pytest.raises(UpstreamError, match="it said cut; do something"):
        asked.patience.ask(asked, explain)
    assert asked.waits == [1, 2]


def test_what_brought_bytes_is_no_failure() -> None:
    asked = Asked(*[BrokenOff("cut")] * 5)
    sizes = iter([0, 10, 10, 20, 20, 30, 30, 40, 40, 50, 50])
    assert asked.patience.ask(asked, explain, lambda: next(sizes)) == "done"
    assert asked.waits == [1] * 5


def test_a_429_waits_as_told_and_no_longer_than_ten_minutes() -> None:
    asked = Asked(failure(429, **{"Retry-After": "7"}))
    assert asked.patience.ask(asked, explain) == "done"
    assert asked.waits == [7]
    asked = Asked(failure(429, **{"Retry-After": "601"}))
    with pytest.raises(UpstreamError):
        asked.patience.ask(asked, explain)
    assert asked.waits == []


@pytest.mark.parametrize(
    ("status", "pause"),
    [(408, 1), (500, 1), (503, 1), (429, 1), (401, None), (404, None), (416, None)],
)
def test_what_is_worth_asking_again(status: int, pause: float | None) -> None:
    assert pause_before_retry(failure(status), 1) == pause


def test_the_longest_backoff() -> None:
    assert pause_before_retry(BrokenOff(""), 20) == 30


def test_both_forms_of_retry_after() -> None:
    assert retry_after(" 12 ") == 12
    assert retry_after("soon") is None
    assert retry_after("") is None
    in_a_minute = retry_after(formatdate(time.time() + 60, usegmt=True))
    assert in_a_minute is not None
    assert 55 < in_a_minute <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_other_errors_are_nobodys_business_here() -> None:
    asked = Asked(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        asked.patience.ask(asked, explain)
