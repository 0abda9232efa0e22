"""What is served, and what is kept for requests that still use it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ModelNotFound
from corral.registry.catalog import Catalog, Model
from corral.runtime.board import Board, Serving
from corral.runtime.presets import lay_out
from corral.settings import Settings

SETTINGS = Settings.model_validate({"preload": ["tiny"]})


def model(name: str, kind: Any = "base", **more: Any) -> Model:
    return Model(name=name, kind=kind, path=Path(f"/m/{name}.gguf"), source="test", **more)


TINY = {"tiny": model("tiny"), "a": model("a", "adapter", base="tiny")}
MORE = Catalog({**TINY, "b": model("b", "adapter", base="tiny")})


def board() -> Board:
    catalog = Catalog(TINY)
    return Board(Serving(SETTINGS, catalog, lay_out(catalog, SETTINGS)))


def switch(to: Board, catalog: Catalog) -> None:
    layout = to.plan(catalog)
    for section in layout.sections:
        to.expect(section)
    to.switch(Serving(SETTINGS, catalog, layout))


def sections(of: Board) -> list[str]:
    return [line[1:-1] for line in of.ini().splitlines() if line.startswith("[")]


async def test_a_section_stays_until_its_last_request_has_ended() -> None:
    held = board()
    serving, tuned = await held.take("a")
    section = serving.placement(tuned).section
    held.hold(section)
    held.hold(section)
    switch(held, MORE)
    held.forget_idle()
    assert sections(held) == ["tiny@2", "tiny@1"]
    assert held.serving.placement(tuned).section == "tiny@2"
    assert serving.placement(tuned).section == "tiny@1", "what a request has taken stays"
    held.release(section)
    held.forget_idle()
    assert sections(held) == ["tiny@2", "tiny@1"]
    held.release(section)
    held.forget_idle()
    assert sections(held) == ["tiny@2"]


def test_going_back_takes_up_the_section_that_still_runs() -> None:
    held = board()
    held.hold("tiny@1")
    switch(held, MORE)
    switch(held, Catalog(TINY))
    assert held.serving.layout.placements["a"].section == "tiny@1"
    held.forget_idle()
    assert sections(held) == ["tiny@1"]


def test_a_generation_is_not_used_twice() -> None:
    held = board()
    (section,) = held.plan(MORE).sections
    held.expect(section)
    held.give_up(section)
    assert held.plan(MORE).sections[0].name == "tiny@3"


def test_a_router_that_starts_loads_what_is_served_and_no_more() -> None:
    held = board()
    assert held.ini_at_start().count("load-on-startup") == 1
    held.hold("tiny@1")
    switch(held, MORE)
    running = held.ini()
    assert "load-on-startup" in running.split("[tiny@1]")[1], "as the router has first seen it"
    assert "load-on-startup" not in running.split("[tiny@1]")[0]
    restarted = held.ini_at_start()
    assert restarted.count("load-on-startup") == 1
    assert "load-on-startup" in restarted.split("[tiny@1]")[0], "tiny@2, which comes first"


async def test_requests_for_a_paused_base_wait_and_get_what_is_served_then() -> None:
    held = board()
    held.pause("tiny")
    waiting = asyncio.create_task(held.take("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    switch(held, MORE)
    held.resume()
    serving, tuned = await waiting
    assert serving.placement(tuned).section == "tiny@2"


async def test_a_model_removed_while_a_request_waited_is_not_found() -> None:
    held = board()
    held.pause("tiny")
    waiting = asyncio.create_task(held.take("a"))
    await asyncio.sleep(0)
    switch(held, Catalog({"tiny": TINY["tiny"]}))
    held.resume()
    with pytest.raises(ModelNotFound, match="`a` does not exist here"):
        await waiting
