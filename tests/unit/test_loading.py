"""How far a load has come: out of the events that llama-server's router sends at the pinned commit."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corral.errors import NotReady
from corral.runtime.command import Endpoint
from corral.runtime.instances import Instances
from corral.runtime.loading import MOST_SECONDS, USUAL_SECONDS, Loading
from tests.unit.test_instances import FakeRouter, instances

ROUTER = Endpoint(1000, "key")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def loads(value: float, current: str = "text_model", stages: int = 1) -> dict[str, Any]:
    """As the router writes it."""
    names = ["text_model", "mmproj_model", "spec_model"][:stages]
    progress = {"stages": names, "current": current, "value": value}
    data = {"status": "loading", "progress": progress}
    return {"model": "big@1", "event": "status_change", "data": data}


def status(value: str) -> dict[str, Any]:
    return {"model": "big@1", "event": "status_change", "data": {"status": value}}


def test_the_share_and_what_is_left() -> None:
    clock = Clock()
    loading = Loading(clock)
    assert loading.told("big@1") == "is loading"
    assert loading.seconds_left("big@1") == USUAL_SECONDS
    loading.note(loads(0.0))
    clock.now += 10
    loading.note(loads(0.25))
    assert loading.told("big@1") == "is loading, 25% of it read"
    assert loading.seconds_left("big@1") == 30
    clock.now += 1000
    assert loading.seconds_left("big@1") == MOST_SECONDS
    loading.note(loads(1.0))
    assert loading.seconds_left("big@1") == 1


def test_stages_count_alike() -> None:
    loading = Loading(Clock())
    loading.note(loads(0.5, "mmproj_model", stages=2))
    assert loading.told("big@1") == "is loading, 75% of it read"


@pytest.mark.parametrize("ended", ["loaded", "unloaded", "sleeping"])
def test_a_load_that_has_ended_is_forgotten(ended: str) -> None:
    loading = Loading(Clock())
    loading.note(loads(0.5))
    loading.note(status(ended))
    assert loading.told("big@1") == "is loading"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "status_change"},
        {"event": "status_change", "data": "x"},
        {"event": "models_reload", "model": "*"},
        {"event": "status_change", "model": "a", "data": {"status": "loading", "progress": {}}},
        {**loads(0.5), "data": {"status": "loading", "progress": {"stages": [], "current": "x"}}},
        loads("much"),  # type: ignore[arg-type]
    ],
)
def test_events_of_another_kind_are_passed_over(event: dict[str, Any]) -> None:
    loading = Loading(Clock())
    loading.note(event)
    assert loading.told("big@1") == "is loading"


async def test_it_follows_the_next_router_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.runtime.loading.AGAIN_SECONDS", 0.01)
    asked: list[Endpoint] = []
    told = asyncio.Event()

    @asynccontextmanager
    async def events(router: Endpoint) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        asked.append(router)
        if len(asked) == 1:
            raise NotReady("the router has ended")
        yield stream()

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        yield loads(0.5)
        told.set()
        await asyncio.sleep(60)

    async def router() -> Endpoint:
        return ROUTER

    loading = Loading()
    task = asyncio.create_task(loading.follow(router, events))
    await asyncio.wait_for(told.wait(), 5)
    assert loading.told("big@1") == "is loading, 50% of it read"
    task.cancel()


async def test_the_503_says_how_far_and_when_to_ask_again() -> None:
    made, _ = instances(FakeRouter())
    clock = Clock()
    loading = Loading(clock)
    told = Instances(made._settings, made._board, made._client, loading)
    loading.note(loads(0.0))
    clock.now += 6
    loading.note(loads(0.4))
    with pytest.raises(NotReady) as raised:
        told._check_time(0.0, "big@1", loading=True)
    assert raised.value.message == ("model `big@1` is loading, 40% of it read; try again in 9 s")
    assert raised.value.headers == {"Retry-After": "9"}
