"""Corral's HTTP protocol over uvicorn's, on a transport that only notes what is written."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from corral.errors import StartupError
from corral.gateway import protocol
from corral.gateway.outlet import Outlet
from tests.fakes.asgi import call
from tests.fakes.served import chat
from tests.unit.test_app import build, post

GET = b"GET /%b HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Noted(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Application:
    """Streams the path of a request and then, when told to, `end`; by the outlet or by `send`."""

    def __init__(self, *, by_outlet: bool = True) -> None:
        self.by_outlet = by_outlet
        self.go_on = asyncio.Event()
        self.asked: list[Outlet] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(Outlet.of(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self._write(scope["path"].encode(), send)
        await self.go_on.wait()
        await self._write(b"end", send)
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, data: bytes, send: Send) -> None:
        if self.by_outlet:
            assert self.asked[-1].write(data)
        else:
            await send({"type": "http.response.body", "body": data, "more_body": True})


def connect(app: Application, header: float = 10.0) -> tuple[protocol.TimedProtocol, Noted]:
    kind = protocol.TimedProtocol.with_timeouts(header, 60.0)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    made, transport = kind(config, ServerState(), {}), Noted()
    made.connection_made(transport)
    return made, transport


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_outlet_writes_what_uvicorn_would_have_written() -> None:
    found = []
    for by_outlet in (True, False):
        app = Application(by_outlet=by_outlet)
        made, transport = connect(app)
        made.data_received(GET % b"x")
        app.go_on.set()
        await settle()
        found.append(transport.written)
        made.connection_lost(None)
    assert found[0] == found[1]
    assert found[0].endswith(b"2\r\n/x\r\n3\r\nend\r\n0\r\n\r\n")


async def test_a_request_ahead_of_its_turn_waits_for_it() -> None:
    app = Application()
    made, transport = connect(app)
    made.data_received(GET % b"first" + GET % b"second")
    await settle()
    assert (b"/first" in transport.written, b"/second" in transport.written) == (True, False)
    app.go_on.set()
    await settle()
    heads = [transport.written.index(part) for part in (b"/first", b"/second")]
    assert heads == sorted(heads)
    assert transport.written.count(b"0\r\n\r\n") == 2
    made.connection_lost(None)


async def test_a_lost_connection_is_told_to_each_of_its_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application()
    made, transport = connect(app)
    made.data_received(GET % b"first" + GET % b"second")
    await settle()
    before = transport.written
    made.connection_lost(ConnectionResetError())
    assert app.asked[0].gone
    app.go_on.set()
    await settle()
    assert transport.written == before
    assert len(app.asked) == 1
    assert caplog.text == ""


async def test_half_a_request_behind_one_that_takes_its_time_does_not_end_it() -> None:
    app = Application()
    made, transport = connect(app, header=0.02)
    made.data_received(GET % b"first" + b"GET /second HTTP/1.1\r\n")
    await asyncio.sleep(0.05)
    assert not transport.closed
    app.go_on.set()
    await settle()
    await asyncio.sleep(0.05)
    assert transport.closed  # nobody is answered any more, and the rest has not come
    assert transport.written.endswith(b"0\r\n\r\n")
    made.connection_lost(None)


def test_this_uvicorn_has_all_that_is_leant_on() -> None:
    protocol.check()


def test_another_uvicorn_stops_the_start_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {**protocol.INNER, RequestResponseCycle: ("disconnected", "gone_away")}
    monkeypatch.setattr(protocol, "INNER", names)
    with pytest.raises(StartupError, match=r"no RequestResponseCycle\.gone_away, which") as caught:
        protocol.check()
    assert uvicorn.__version__ in caught.value.message


def test_the_decision_names_all_that_is_leant_on() -> None:
    adr = Path(__file__).parents[2] / "docs/adr/0009-own-reader-to-the-instance.md"
    told = set(re.findall(r"`(\w+)`", adr.read_text(encoding="utf-8")))
    assert {name for names in protocol.INNER.values() for name in names} <= told


def test_another_server_cannot_start_corral(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="corral serve"), TestClient(build(tmp_path)):
        pass


async def test_a_request_through_another_server_is_refused_and_holds_nothing(
    tmp_path: Path,
) -> None:
    app = build(tmp_path)
    answer = await post(app, "/v1/chat/completions", chat())
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "corral serve" in answer.error["message"]
    assert not app.state.gateway.runtime.board.users("tiny@1")
    assert (await call(app, "GET", "/v1/models")).status == 200
