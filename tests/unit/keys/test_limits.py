"""Requests and tokens a minute, and a budget. Time is a number here."""

import pytest

from corral.errors import RateLimited
from corral.keys.limits import Limits, Terms


def refused(limits: Limits, now: float) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        limits.enter(now)
    return caught.value


def headers(limits: Limits) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in limits.headers()}


def test_a_minutes_requests_and_then_one_by_one() -> None:
    limits = Limits(Terms(rpm=6), 0, now=100)
    for _ in range(6):
        limits.enter(100)
    error = refused(limits, 100)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers == {
        "Retry-After": "10",
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    assert "6 requests a minute (`rpm`); try again in 10 s" in error.message
    refused(limits, 109.9)
    limits.enter(110)
    refused(limits, 110)


def test_who_waits_as_long_as_told_is_let_in() -> None:
    limits = Limits(Terms(rpm=7, tpm=1000), 0, now=0)
    now, let_in = 0.0, 0
    while now < 600:
        try:
            limits.leave(limits.enter(now), 100, now)
            let_in += 1
        except RateLimited as error:
            wait = int(error.headers["Retry-After"])
            assert 1 <= wait <= 60
            now += wait
            limits.leave(limits.enter(now), 100, now)
            let_in += 1
    assert 70 <= let_in <= 78


def test_what_is_left_is_told() -> None:
    limits = Limits(Terms(rpm=10, tpm=600), 0, now=0)
    limits.leave(limits.enter(0), 100, 0)
    assert headers(limits) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "6s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "10s",
    }


def test_tokens_beyond_the_minute_are_waited_for() -> None:
    limits = Limits(Terms(tpm=60), 0, now=0)
    limits.leave(limits.enter(0), 180, 0)
    error = refused(limits, 0)
    assert error.headers["Retry-After"] == "121"
    assert headers(limits)["x-ratelimit-remaining-tokens"] == "0"
    refused(limits, 119)
    limits.enter(121)


def test_many_at_once_count_before_they_have_ended() -> None:
    limits = Limits(Terms(tpm=1000), 0, now=0)
    limits.leave(limits.enter(0), 200, 0)  # a mean of 200, 800 left
    running = [limits.enter(0) for _ in range(4)]
    refused(limits, 0)
    for expected in running:
        limits.leave(expected, 100, 0)
    limits.enter(0)


def test_a_request_that_took_nothing_leaves_the_mean_alone() -> None:
    limits = Limits(Terms(tpm=1000), 0, now=0)
    limits.leave(limits.enter(0), 200, 0)
    limits.leave(limits.enter(0), 0, 0)
    assert limits.enter(0) == 200


def test_a_budget_ends_for_good() -> None:
    limits = Limits(Terms(budget=100), 60, now=0)
    limits.leave(limits.enter(0), 39, 0)
    assert limits.spent == 99
    with pytest.raises(RateLimited):
        [limits.enter(0) for _ in range(3)]
    fresh = Limits(Terms(budget=100), 100, now=0)
    error = refused(fresh, 1e9)
    assert (error.code, error.headers) == ("insufficient_quota", {"x-should-retry": "false"})
    assert "100 of 100 tokens" in error.message


def test_a_budget_alone_has_no_headers() -> None:
    assert Limits(Terms(budget=5), 0, 0).headers() == []
