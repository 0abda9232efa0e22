"""A client that does not read what it has asked for costs neither memory nor, for long, a slot."""

import asyncio
import contextlib
import fcntl
import json
import re
import signal
import socket
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from corral.keys.usage import FLUSH_SECONDS
from tests.fakes.served import Served, ask, chat, serve, wait_for

MIB = 1024 * 1024
STALL_SECONDS = 3.0
TEXT = "x" * 100_000
# Above uvicorn's mark of 64 KiB, below what the event loop reads at once.
LONG_END = 150_000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(
        tmp_path,
        CORRAL_SLOTS="1",
        CORRAL_STALL_TIMEOUT=str(STALL_SECONDS),
        # Shorter than the stall: a client that does not read is no silence of llama-server's.
        CORRAL_UPSTREAM_TIMEOUT="2",
    ) as made:
        made.url  # noqa: B018  # waits until it is ready
        yield made


def ask_and_do_not_read(served: Served, body: bytes, but: int = 0) -> socket.socket:
    """A connection on which `body` was posted, `but` so many last bytes of it, and nothing is read."""
    address = urlsplit(served.url)
    connection = socket.socket()
    # Little room in the kernel, so that what is not read is soon Corral's concern.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((address.hostname, address.port))
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    )
    connection.sendall(head.encode() + b"\r\n" + body[: len(body) - but])
    return connection


def memory(served: Served) -> int:
    """Resident bytes of the gateway."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


async def received(connection: socket.socket) -> int:
    """Bytes that still come until the connection ends."""
    total = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(connection, MIB):
            total += len(piece)
    return total


def endless(tmp_path: Path) -> bytes:
    """A stream of 100 kB events that does not end by itself."""
    return json.dumps(chat(stream=True, text=TEXT, until=str(tmp_path / "never"))).encode()


async def test_a_stream_that_is_not_read_holds_no_memory_and_no_slot(
    served: Served, tmp_path: Path
) -> None:
    assert (await ask(served.url, chat()))[0] == 200
    # The first usage is stored by then, which has cost 1 to 9 MiB, once, without any stream.
    await asyncio.sleep(FLUSH_SECONDS + 1)
    before = memory(served)
    with ask_and_do_not_read(served, endless(tmp_path)):
        most, end = 0, time.monotonic() + STALL_SECONDS - 0.3
        while time.monotonic() < end:
            most = max(most, memory(served))
            await asyncio.sleep(0.05)
        # The one slot is taken until the client has been given up.
        began = time.monotonic()
        assert (await ask(served.url, chat()))[0] == 200
        assert time.monotonic() - began < STALL_SECONDS + 3
    assert most - before < 8 * MIB
    await asyncio.to_thread(wait_for, lambda: "client gone" in served.llama_log, "upstream ended")
    await asyncio.to_thread(
        wait_for, lambda: '"outcome": "stalled"' in served.stderr, "the request's line in the log"
    )
    assert "upstream_timeout" not in served.stderr


async def test_a_slow_reader_is_let_be(served: Served, tmp_path: Path) -> None:
    """Slower than llama-server for longer than the limit, but never still."""
    with ask_and_do_not_read(served, endless(tmp_path)) as connection:
        connection.setblocking(False)
        end = time.monotonic() + 3 * STALL_SECONDS
        while time.monotonic() < end:
            got = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 65536), 2)
            assert got
            await asyncio.sleep(0.05)
    await asyncio.to_thread(wait_for, lambda: "client_gone" in served.stderr, "it was noticed")
    assert "stalled" not in served.stderr


async def test_a_whole_answer_that_is_not_read_is_given_up_too(served: Served) -> None:
    body = json.dumps(chat(text="y" * 16 * MIB)).encode()
    with ask_and_do_not_read(served, body) as connection:
        await asyncio.to_thread(
            wait_for, lambda: "stopped reading" in served.stderr, "it was given up"
        )
        connection.setblocking(False)
        assert await received(connection) < 16 * MIB


def send_long_body(served: Served, body: bytes) -> socket.socket:
    """A connection on which `body` was posted so that Corral reads the end of it in one piece: it stands still
    until the end has come. uvicorn stops reading after such a piece."""
    end = body[-LONG_END:]
    connection = ask_and_do_not_read(served, body, but=len(end))
    time.sleep(0.3)  # for it to have read the beginning
    served.signal(signal.SIGSTOP)
    try:
        connection.sendall(end)
        wait_for(lambda: not unacknowledged(connection), "the kernel has all of it")
    finally:
        served.signal(signal.SIGCONT)
    return connection


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that the other side's kernel has not yet taken."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"0000"))
    return int(count)


def test_a_client_that_goes_after_a_long_body_is_noticed(tmp_path: Path) -> None:
    """While llama-server says nothing: a write to the client that has gone would tell too."""
    body = chat(silent=True)
    body["messages"].append({"role": "user", "content": "x" * 3 * MIB})
    with serve(tmp_path) as served:
        with send_long_body(served, json.dumps(body).encode()):
            wait_for(lambda: "silent" in served.llama_log, "llama-server has been asked")
        wait_for(lambda: "client gone" in served.llama_log, "upstream ended")
        wait_for(lambda: '"outcome": "client_gone"' in served.stderr, "it was noted")
