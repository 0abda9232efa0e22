"""Tokens go out past the layers of `send`, as the chunks that uvicorn would have written."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from corral.gateway.outlet import KEY, NO_FILE, Outlet, Transport


@dataclass
class Wire:
    """Notes each write, and whether it was closed."""

    written: list[bytes] = field(default_factory=list)
    closed: bool = False
    facts: dict[str, object] = field(default_factory=dict)

    def get_extra_info(self, name: str) -> object:
        return self.facts.get(name)

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@dataclass
class Cycle:
    disconnected: bool = False
    response_complete: bool = False
    more_body: bool = False
    transport: Transport = field(default_factory=Wire)


@dataclass
class Flow:
    write_paused: bool = False
    taken: asyncio.Event = field(default_factory=asyncio.Event)

    reading: bool = False

    def resume_reading(self) -> None:
        self.reading = True

    async def drain(self) -> None:
        await self.taken.wait()


def outlet(written: list[bytes], flow: Flow | None = None, cycle: Cycle | None = None) -> Outlet:
    return Outlet(cast(asyncio.Transport, Wire(written)), flow or Flow(), cycle or Cycle())


@pytest.mark.parametrize(
    ("data", "chunk"), [(b"data: 1\n\n", b"9\r\ndata: 1\n\n\r\n"), (b"x" * 26, b"1a\r\n%b\r\n")]
)
async def test_a_piece_is_one_chunk_and_one_write(data: bytes, chunk: bytes) -> None:
    written: list[bytes] = []
    assert outlet(written).write(data)
    assert written == [chunk % data if b"%" in chunk else chunk]


async def test_an_empty_piece_does_not_end_the_answer() -> None:
    written: list[bytes] = []
    assert outlet(written).write(b"")
    assert not written


async def test_a_client_that_has_gone_gets_nothing_and_holds_nothing_up() -> None:
    written: list[bytes] = []
    assert outlet(written, Flow(write_paused=True), Cycle(disconnected=True)).write(b"x")
    assert not written


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    written: list[bytes] = []
    flow = Flow(write_paused=True)
    way = outlet(written, flow)
    assert not way.write(b"x")
    assert written  # it has been sent all the same: only the next one has to wait
    draining = asyncio.create_task(way.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    flow.taken.set()
    await draining


@pytest.mark.parametrize(
    ("facts", "file"),
    [
        ({}, NO_FILE),
        ({"socket": SimpleNamespace(fileno=lambda: 7)}, 7),
        ({"socket": SimpleNamespace(fileno=lambda: 7), "sslcontext": object()}, NO_FILE),
    ],
    ids=["no socket", "a socket", "TLS"],
)
def test_only_what_is_written_as_it_is_has_a_file(facts: dict[str, object], file: int) -> None:
    transport = cast(asyncio.Transport, Wire(facts=facts))
    assert Outlet(transport, Flow(), Cycle()).file == file


async def test_it_is_found_where_the_protocol_has_put_it() -> None:
    way = outlet([])
    assert Outlet.of({KEY: way}) is way


async def test_whoever_wants_to_know_is_told_once_that_the_client_has_gone() -> None:
    flow, told = Flow(), list[str]()
    way = outlet([], flow)
    way.when_gone(lambda: told.append("gone"))
    assert flow.reading  # else uvicorn would not see it after a long body
    way.lost()
    assert told == ["gone"]
    assert way.gone


async def test_who_no_longer_wants_to_know_is_not_told() -> None:
    told = list[str]()
    way = outlet([])
    way.when_gone(lambda: told.append("gone"))
    way.when_gone(None)
    way.lost()
    assert told == []


def test_the_head_goes_out_with_what_follows_it_and_no_more() -> None:
    wire = Wire()
    cycle = Cycle(transport=wire)
    outlet([], cycle=cycle).join_writes()
    for part in (b"head ", b"first ", b"second "):
        cycle.transport.write(part)
    assert wire.written == [b"head first ", b"second "]
    assert cycle.transport is wire


def test_a_head_that_nothing_follows_goes_out_when_the_connection_is_closed() -> None:
    wire = Wire()
    cycle = Cycle(transport=wire)
    outlet([], cycle=cycle).join_writes()
    cycle.transport.write(b"head")
    assert (wire.written, cycle.transport.is_closing()) == ([], False)
    cycle.transport.close()
    assert (wire.written, wire.closed) == ([b"head"], True)


def test_whether_all_of_the_body_is_there() -> None:
    assert outlet([]).has_body
    assert not outlet([], cycle=Cycle(more_body=True)).has_body
