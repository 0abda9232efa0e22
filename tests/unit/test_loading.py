"""How far a load has come: out of the events that llama-server's router sends at the pinned commit."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corral.errors import NotReady
from corral.runtime.command import Endpoint
from corral.runtime.instances import Instances
from corral.runtime.loading import MOST_SECONDS, USUAL_SECONDS, Events, Loading
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


class FakeEvents:
    """A router's events: `tell` one, or None, which ends them. `heard` counts who has listened."""

    def __init__(self) -> None:
        self.heard = 0
        self._queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()

    def tell(self, event: Mapping[str, Any] | None) -> None:
        self._queue.put_nowait(event)

    @asynccontextmanager
    async def __call__(self, router: Endpoint) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        self.heard += 1
        yield self._stream()

    async def _stream(self) -> AsyncIterator[Mapping[str, Any]]:
        while (event := await self._queue.get()) is not None:
            yield event


async def router() -> Endpoint:
    return ROUTER


@asynccontextmanager
async def following(
    events: Events, states: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Loading]:
    """Follows `events` of a router whose sections have `states`."""

    async def listed() -> Mapping[str, str]:
        return states

    monkeypatch.setattr("corral.runtime.loading.AGAIN_SECONDS", 0.01)
    loading = Loading()
    task = asyncio.create_task(loading.follow(router, events, listed))
    try:
        yield loading
    finally:
        task.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_nobody_listens_while_nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    events, states = FakeEvents(), {"big@1": "loaded", "small@1": "unloaded"}
    async with following(events, states, monkeypatch) as loading:
        loading.see(states)
        await asyncio.sleep(0.05)
        assert events.heard == 0


async def test_it_listens_until_the_last_load_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    events, states = FakeEvents(), {"big@1": "loading"}
    async with following(events, states, monkeypatch) as loading:
        loading.see(states)
        events.tell(loads(0.5))
        await until(lambda: loading.told("big@1") == "is loading, 50% of it read")
        events.tell({**loads(0.25), "model": "other@1"})
        events.tell(status("loaded"))
        await until(lambda: loading.told("big@1") == "is loading")
        assert loading.told("other@1") == "is loading, 25% of it read"
        states["big@1"] = "loaded"
        events.tell({**status("loaded"), "model": "other@1"})
        await asyncio.sleep(0.05)
        assert events.heard == 1
        states["big@1"] = "loading"
        loading.see(states)
        await until(lambda: events.heard == 2)


async def test_a_load_that_ends_before_the_events_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    events = FakeEvents()
    async with following(events, {"big@1": "loaded"}, monkeypatch) as loading:
        loading.see({"big@1": "loading"})
        await until(lambda: events.heard == 1)
        await asyncio.sleep(0.05)
        loading.see({"big@1": "loading"})
        await until(lambda: events.heard == 2)


async def test_it_follows_the_next_router_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told, asked = FakeEvents(), 0

    @asynccontextmanager
    async def events(router: Endpoint) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise NotReady("the router has ended")
        async with told(router) as stream:
            yield stream

    async with following(events, {"big@1": "loading"}, monkeypatch) as loading:
        loading.see({"big@1": "loading"})
        told.tell(loads(0.5))
        await until(lambda: loading.told("big@1") == "is loading, 50% of it read")
        told.tell(None)
        await until(lambda: asked == 3)


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
