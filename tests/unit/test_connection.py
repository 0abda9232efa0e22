"""The reader between gateway and instance: what comes is given on at once, in order, and never twice."""

import asyncio
from typing import Any

import pytest

from corral.runtime.connection import LOOKS, UNREAD_MOST, BrokenOff, Connection, Shortcut, Sink

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
PATIENCE = 0.2


class Wire(asyncio.Transport):
    """The other end, as far as a connection sees it, and the event loop between."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.reading = True
        self.aborted = False

    def receive(self, data: bytes) -> None:
        """Something has come."""
        assert isinstance(self.protocol, asyncio.Protocol)
        self.protocol.data_received(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def connected(kept: list[Connection] | None = None) -> tuple[Connection, Wire]:
    made = Connection((kept if kept is not None else []).append)
    wire = Wire(made)
    made.connection_made(wire)
    return made, wire


def asked(*, last: bool = False, kept: list[Connection] | None = None) -> tuple[Connection, Wire]:
    made, wire = connected(kept)
    made.ask(b"POST", PATIENCE, last=last)
    return made, wire


def into(got: list[bytes], *, wants_more: bool = True) -> Sink:
    def sink(data: bytes) -> bool:
        got.append(data)
        return wants_more

    return sink


async def test_an_answer_cut_anywhere_is_read_the_same() -> None:
    whole = CHUNKED + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + END
    for cut in range(1, len(whole)):
        connection, wire = asked()
        for part in (whole[:cut], whole[cut:]):
            connection.data_received(part)
        await connection.head()
        assert (connection.status, connection.content_type) == (200, b"text/event-stream")
        assert await connection.body() == await connection.body() == b"data: 1\n\ndata: 2\n\n"
        assert wire.written == b"POST"
        connection.end()


async def test_what_comes_is_poured_at_once_and_together() -> None:
    connection, _ = asked()
    connection.data_received(CHUNKED + chunk(b"a"))
    got: list[bytes] = []
    pouring = asyncio.create_task(connection.pour(into(got)))
    await asyncio.sleep(0)
    assert got == [b"a"]
    connection.data_received(chunk(b"b") + chunk(b"c"))
    assert got == [b"a", b"bc"]  # in the same step: nobody had to wake up
    connection.data_received(chunk(b"d") + END)
    assert await pouring
    assert got == [b"a", b"bc", b"d"]
    connection.end()


async def test_a_full_sink_stops_the_instance_until_it_is_poured_again() -> None:
    connection, wire = asked()
    got: list[bytes] = []
    pouring = asyncio.create_task(connection.pour(into(got, wants_more=False)))
    await asyncio.sleep(0)
    connection.data_received(CHUNKED + chunk(b"a"))
    assert not await pouring
    assert not wire.reading
    # A client that takes nothing is no silence of the instance's.
    await asyncio.sleep(2 * PATIENCE)
    again = asyncio.create_task(connection.pour(into(got)))
    await asyncio.sleep(0)
    assert wire.reading
    connection.data_received(chunk(b"b") + END)
    assert await again
    assert got == [b"a", b"b"]
    connection.end()


async def test_the_last_piece_into_a_full_sink_is_the_end_all_the_same() -> None:
    connection, wire = asked()
    connection.data_received(CHUNKED + chunk(b"a") + END)
    assert await connection.pour(lambda data: False)
    assert wire.reading
    connection.end()


async def test_what_a_sink_raises_reaches_whoever_pours() -> None:
    connection, wire = asked()

    def sink(data: bytes) -> bool:
        raise KeyError(data)

    pouring = asyncio.create_task(connection.pour(sink))
    await asyncio.sleep(0)
    connection.data_received(CHUNKED + chunk(b"a"))
    with pytest.raises(KeyError):
        await pouring
    assert wire.aborted


async def test_what_nobody_reads_is_bounded() -> None:
    connection, wire = asked()
    connection.data_received(CHUNKED + chunk(b"x" * UNREAD_MOST))
    assert wire.reading
    connection.data_received(chunk(b"y"))
    assert not wire.reading
    assert len(await connection.read()) == UNREAD_MOST + 1
    assert wire.reading
    connection.end()


@pytest.mark.parametrize("sent", [b"", CHUNKED, CHUNKED + chunk(b"a")])
async def test_a_lost_connection_is_told_after_what_had_come(sent: bytes) -> None:
    connection, _ = asked()
    if sent:
        connection.data_received(sent)
    connection.connection_lost(None)
    if sent.endswith(b"a\r\n"):
        assert await connection.read() == b"a"
    for _ in range(2):
        with pytest.raises(BrokenOff, match="closed the connection"):
            await connection.read()
    with pytest.raises(BrokenOff):
        await connection.pour(lambda data: True)


async def test_a_connection_lost_while_it_pours_breaks_off() -> None:
    connection, _ = asked()
    pouring = asyncio.create_task(connection.pour(lambda data: True))
    await asyncio.sleep(0)
    connection.data_received(CHUNKED + chunk(b"a"))
    connection.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(BrokenOff, match="reset"):
        await pouring


async def test_what_is_no_http_breaks_off() -> None:
    connection, wire = asked()
    connection.data_received(b"220 mail.example.org ESMTP\r\n")
    with pytest.raises(BrokenOff, match="no HTTP"):
        await connection.head()
    assert wire.aborted


async def test_a_silence_breaks_the_read_off() -> None:
    connection, wire = asked()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await connection.head()
    waited = asyncio.get_running_loop().time() - began
    assert PATIENCE <= waited < PATIENCE * (1 + 1 / LOOKS) + 0.15
    assert wire.aborted


@pytest.mark.parametrize("pause", [PATIENCE / 2, PATIENCE * 1.5], ids=["runs", "has ended"])
async def test_a_silence_counts_from_the_last_request_over_the_connection(pause: float) -> None:
    """The clock of the first request over a connection still runs, or has ended."""
    connection, _ = asked()
    connection.data_received(HEAD + b"Content-Length: 2\r\n\r\nok")
    assert await connection.body() == b"ok"
    connection.end()
    await asyncio.sleep(pause)
    connection.ask(b"POST", PATIENCE)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await connection.head()
    waited = asyncio.get_running_loop().time() - began
    assert PATIENCE <= waited < PATIENCE * (1 + 1 / LOOKS) + 0.15


async def test_bytes_that_come_slowly_are_no_silence() -> None:
    connection, _ = asked()
    connection.data_received(CHUNKED)
    for _ in range(6):
        await asyncio.sleep(PATIENCE / 2)
        connection.data_received(chunk(b"x"))
        assert await connection.read() == b"x"
    with pytest.raises(TimeoutError):
        await connection.read()


async def test_a_whole_answer_leaves_the_connection_for_the_next_request() -> None:
    kept: list[Connection] = []
    connection, wire = asked(kept=kept)
    for answer in (b"one", b"two"):
        connection.data_received(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + answer,
        )
        assert await connection.body() == answer
        connection.end()
        assert kept.pop() is connection
        assert connection.usable
        connection.ask(b"POST", PATIENCE)
        assert not connection.usable
    connection.end()
    assert wire.aborted


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", False),
        (CHUNKED + chunk(b"x") + END, True),
        (CHUNKED + chunk(b"x"), False),
        (b"", False),
    ],
    ids=["said to be the last", "a stream", "half an answer", "no answer"],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(answer: bytes, last: bool) -> None:
    kept: list[Connection] = []
    connection, wire = asked(last=last, kept=kept)
    if answer:
        connection.data_received(answer)
    connection.end()
    assert wire.aborted
    assert not kept
    assert not connection.usable


async def test_bytes_that_nobody_has_asked_for_close_the_connection() -> None:
    connection, wire = connected()
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert wire.aborted
    assert not connection.usable


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    kept: list[Connection] = []
    connection, wire = asked(kept=kept)
    connection.data_received(HEAD + b"\r\nda")
    connection.data_received(b"ta")
    connection.eof_received()
    connection.connection_lost(None)
    assert await connection.body() == b"data"
    connection.end()
    assert wire.aborted
    assert not kept


@pytest.mark.parametrize("head", [CHUNKED, HEAD + b"Content-Length: 9\r\n\r\n"])
async def test_an_answer_with_a_length_that_ends_early_is_broken_off(head: bytes) -> None:
    connection, _ = asked()
    connection.data_received(head)
    connection.eof_received()
    connection.connection_lost(None)
    with pytest.raises(BrokenOff):
        await connection.body()


async def test_a_note_ahead_of_the_answer_is_passed_over() -> None:
    connection, _ = asked()
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    head = asyncio.create_task(connection.head())
    await asyncio.sleep(0)
    assert not head.done()
    connection.data_received(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
    await head
    assert (connection.status, await connection.body()) == (201, b"ok")
    connection.end()


async def test_a_change_of_protocol_breaks_off() -> None:
    connection, wire = asked()
    connection.data_received(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    )
    with pytest.raises(BrokenOff):
        await connection.head()
    assert wire.aborted


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore", b"junk"])
async def test_what_follows_an_answer_is_no_part_of_it_nor_of_the_next(more: bytes) -> None:
    kept: list[Connection] = []
    connection, wire = asked(kept=kept)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none" + more)
    assert await connection.body() == b"one"
    connection.end()
    assert wire.aborted
    assert not kept


async def test_what_came_before_junk_is_poured() -> None:
    connection, _ = asked()
    got: list[bytes] = []
    pouring = asyncio.create_task(connection.pour(into(got)))
    await asyncio.sleep(0)
    connection.data_received(CHUNKED + chunk(b"a") + b"no length\r\n")
    with pytest.raises(BrokenOff):
        await pouring
    assert got == [b"a"]


async def test_a_whole_answer_that_waits_for_its_client_is_no_silence() -> None:
    kept: list[Connection] = []
    connection, wire = asked(kept=kept)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    assert await connection.body() == b"one"
    await asyncio.sleep(2 * PATIENCE)
    connection.end()
    assert not wire.aborted
    assert kept == [connection]


async def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    connection, wire = asked()
    got: list[bytes] = []
    pouring = asyncio.create_task(connection.pour(into(got)))
    await asyncio.sleep(0)
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    connection.end()
    assert wire.aborted
    connection.connection_lost(None)
    assert got == []


async def test_a_connection_whose_answer_nobody_read_is_read_again() -> None:
    kept: list[Connection] = []
    connection, wire = asked(kept=kept)
    connection.data_received(CHUNKED + chunk(b"x" * (UNREAD_MOST + 1)) + END)
    assert not wire.reading
    connection.end()
    assert kept == [connection]
    assert wire.reading


class Digits(Shortcut):
    """Takes chunks of one digit."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if self.between and len(data) == 6 and data[3:4].isdigit():
            self.taken += 1
            self.got.append(data[3:4])
        else:
            self.leave(data)


async def test_a_shortcut_sees_first_what_comes_between_two_chunks() -> None:
    connection, wire = asked()
    wire.receive(CHUNKED + chunk(b"a"))
    got, digits = list[bytes](), Digits()
    pouring = asyncio.create_task(connection.pour(into(got), digits))
    await asyncio.sleep(0)
    for data in (chunk(b"1"), chunk(b"b"), chunk(b"2"), b"6\r\n", b"1\r\n2\r\n", b"\r\n"):
        wire.receive(data)
    assert (digits.got, got) == ([b"1", b"2"], [b"a", b"b", b"1\r\n2\r\n"])
    wire.receive(chunk(b"3"))
    wire.receive(END)
    assert await pouring
    assert digits.got == [b"1", b"2", b"3"]
    assert wire.protocol is connection
    connection.end()


async def test_a_shortcut_that_is_full_stops_the_pour() -> None:
    connection, wire = asked()
    wire.receive(CHUNKED + chunk(b"a"))
    digits = Digits()
    pouring = asyncio.create_task(connection.pour(lambda data: True, digits))
    await asyncio.sleep(0)
    connection.full()
    assert not await pouring
    assert not wire.reading
    pouring = asyncio.create_task(connection.pour(lambda data: True, digits))
    await asyncio.sleep(0)
    wire.receive(chunk(b"1"))
    wire.receive(END)
    assert await pouring
    assert digits.got == [b"1"]
    connection.end()


async def test_what_a_shortcut_takes_is_no_silence_and_what_it_does_not_is_one() -> None:
    connection, wire = asked()
    wire.receive(CHUNKED + chunk(b"a"))
    pouring = asyncio.create_task(connection.pour(lambda data: True, Digits()))
    for _ in range(6):
        await asyncio.sleep(PATIENCE / 2)
        wire.receive(chunk(b"1"))
    assert not pouring.done()
    with pytest.raises(TimeoutError):
        await pouring


async def test_a_connection_lost_behind_a_shortcut_breaks_off() -> None:
    connection, wire = asked()
    wire.receive(CHUNKED + chunk(b"a"))
    pouring = asyncio.create_task(connection.pour(lambda data: True, Digits()))
    await asyncio.sleep(0)
    wire.aborted = True
    assert isinstance(wire.protocol, Digits)
    wire.protocol.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(BrokenOff, match="reset"):
        await pouring
    # A transport that has ended holds on to nothing, which must stay so.
    assert isinstance(wire.protocol, Digits)
