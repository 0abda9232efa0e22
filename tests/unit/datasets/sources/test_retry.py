"""Trying again: waits, limits, what a server asks for."""

from datetime import UTC, datetime
from random import Random

import pytest

from corral.datasets.sources.retry import Passing, Patience, asked_wait, persist
from corral.errors import UpstreamError


def run(failures: list[Passing], patience: Patience) -> tuple[str, list[float], list[str]]:
    slept: list[float] = []
    told: list[str] = []

    def attempt() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    value = persist(
        attempt,
        "GET /x",
        patience=patience,
        sleep=slept.append,
        random=Random(1),
        report=told.append,
    )
    return value, slept, told


def test_waits_double_up_to_a_limit() -> None:
    failures = [Passing("FOLIO answered 500") for _ in range(5)]
    value, slept, told = run(failures, Patience(first=1, longest=4))
    assert value == "done"
    for wait, most in zip(slept, (1, 2, 4, 4, 4), strict=True):
        assert most / 2 <= wait <= most
    assert told[0].startswith("GET /x: FOLIO answered 500; trying again in ")


def test_the_servers_own_wait_wins() -> None:
    assert run([Passing("429", 7), Passing("429", 0)], Patience())[1] == [7, 0]


def test_patience_ends_with_what_to_do() -> None:
    with pytest.raises(UpstreamError, match="GET /x: 502, 3 times; run again with --resume"):
        run([Passing("502") for _ in range(9)], Patience(tries=3))


def test_a_server_that_asks_for_an_hour_is_not_waited_for() -> None:
    slept: list[float] = []
    with pytest.raises(UpstreamError, match=r"asks to wait 3600 s, more than the 300 s"):
        persist(
            lambda: (_ for _ in ()).throw(Passing("429", 3600)),
            "GET /x",
            patience=Patience(),
            sleep=slept.append,
            random=Random(1),
        )
    assert slept == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Wed, 01 May 2024 10:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 09:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert asked_wait(header, datetime(2024, 5, 1, 10, tzinfo=UTC)) == seconds
