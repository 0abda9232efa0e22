"""Ports as the router tells them, and what is known of them."""

from typing import Any

import pytest

from corral.registry.catalog import Catalog
from corral.runtime.board import Board, Serving
from corral.runtime.client import Instance, NoRoom, RouterClient, _instance
from corral.runtime.command import Endpoint
from corral.runtime.instances import Instances
from corral.runtime.presets import lay_out
from corral.settings import Settings

ROUTER = Endpoint(1000, "key")


class FakeRouter(RouterClient):
    """A router with these instances; loads at once, on the next port."""

    def __init__(self, **ports: int) -> None:
        super().__init__(1)
        self.ports: dict[str, int] = ports
        self.unloaded: list[str] = []
        self.next_port = 9000

    async def instances(self, endpoint: Endpoint) -> list[Instance]:
        names = {*self.ports, *self.unloaded}
        return [
            Instance(
                name, "loaded" if name in self.ports else "unloaded", port=self.ports.get(name, 0)
            )
            for name in names
        ]

    async def load(self, endpoint: Endpoint, section: str) -> None:
        self.ports[section] = self.next_port

    async def unload(self, endpoint: Endpoint, section: str) -> None:
        del self.ports[section]
        self.unloaded.append(section)


def instances(router: FakeRouter, models_max: int = 2) -> tuple[Instances, Board]:
    settings = Settings.model_validate({"models_max": models_max, "preload": []})
    catalog = Catalog({})
    board = Board(Serving(settings, catalog, lay_out(catalog, settings)))
    return Instances(settings, board, router), board


@pytest.mark.parametrize(
    ("args", "port"),
    [
        (["llama-server", "--port", "4711", "--alias", "m"], 4711),
        (["llama-server", "--port"], 0),
        (["llama-server", "--port", "many"], 0),
        ([], 0),
    ],
)
def test_an_instances_port_is_read_from_its_command_line(args: list[str], port: int) -> None:
    item: dict[str, Any] = {"id": "m@1", "status": {"value": "loaded", "args": args}}
    assert _instance(item).port == port


async def test_a_port_that_another_section_has_now_is_not_used_for_the_old_one() -> None:
    """An instance died and the next one got its port: a stale entry would give a wrong model's answer."""
    router = FakeRouter(a=9000)
    known, _ = instances(router)
    assert known.known(ROUTER, "a") is None
    assert (await known.find(ROUTER, "a", 0)).port == 9000
    assert known.known(ROUTER, "a") == Endpoint(9000, "key")
    del router.ports["a"]
    await known.load(ROUTER, "b")
    assert known.known(ROUTER, "b") == Endpoint(9000, "key")
    assert known.known(ROUTER, "a") is None


async def test_what_was_known_under_another_start_of_the_router_is_forgotten() -> None:
    known, _ = instances(FakeRouter(a=9000))
    known.known(ROUTER, "a")
    await known.find(ROUTER, "a", 0)
    assert known.known(Endpoint(1000, "another"), "a") is None


async def test_only_an_idle_section_makes_room() -> None:
    router = FakeRouter(a=1, b=2)
    known, board = instances(router)
    board.hold("a")
    board.hold("b")
    with pytest.raises(NoRoom):
        await known.load(ROUTER, "c")
    board.release("b")
    await known.load(ROUTER, "c")
    assert router.unloaded == ["b"]
    assert sorted(router.ports) == ["a", "c"]
