"""Requests that a client writes to one connection before it has the first answer: answered in their order."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httptools
import pytest

from tests.fakes.served import Served, chat, serve, wait_for

PATIENCE = 20.0
HEADER_TIMEOUT = 1.0


class Answers:
    """What comes back on one connection, answer by answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._bodies: list[bytes] = []
        self._complete = 0
        connection.settimeout(PATIENCE)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._bodies[-1] += data

    def on_message_complete(self) -> None:
        """Called by the parser."""
        assert self._parser.get_status_code() == 200, self._bodies[-1]
        self._complete += 1

    def take(self, count: int) -> list[bytes]:
        """The bodies of the first `count`; fails when what comes is no HTTP or ends before."""
        while self._complete < count:
            data = self._connection.recv(65536)
            assert data, f"it ends after {self._bodies}"
            self._parser.feed_data(data)
        return self._bodies


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    with serve(root, CORRAL_HEADER_TIMEOUT=str(HEADER_TIMEOUT)) as made:
        made.url  # noqa: B018  # waits until it is ready
        yield made


def connect(served: Served) -> socket.socket:
    address = urlsplit(served.url)
    return socket.create_connection((address.hostname, address.port))


def post(body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    return head.encode() + str(len(raw)).encode() + b"\r\n\r\n" + raw


def plain(text: str, **fake: Any) -> bytes:
    return post(chat(text=text, **fake))


def stream(text: str, **fake: Any) -> bytes:
    return post(chat(stream=True, text=text, **fake))


def said(body: bytes) -> str:
    """The text of an answer, streamed to its end or not."""
    if not body.startswith(b"data: "):
        return str(json.loads(body)["choices"][0]["message"]["content"])
    *events, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    return "".join(delta["content"] for delta in deltas)


@pytest.mark.parametrize(
    "requests",
    [
        [plain("one", delay=0.2), plain("two")],
        [stream("one ", tokens=3, delay=0.05), plain("two")],
        [plain("one", delay=0.2), stream("two ", tokens=3)],
        [stream("one ", tokens=3, delay=0.05), stream("two ", tokens=3)],
        # The second is more than uvicorn lets wait unread.
        [stream("one ", tokens=3, delay=0.05), plain("z" * 300_000), plain("three")],
        [b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", stream("two ", tokens=3)],
    ],
    ids=["plain, plain", "stream, plain", "plain, stream", "two streams", "a long one", "models"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
def test_they_are_answered_in_their_order(
    served: Served, requests: list[bytes], at_once: bool
) -> None:
    with connect(served) as connection:
        for piece in [b"".join(requests)] if at_once else requests:
            connection.sendall(piece)
            time.sleep(0.02)
        bodies = Answers(connection).take(len(requests))
    told = [body for body in bodies if b'"object":"list"' not in body]
    wanted = [
        json.loads(raw.partition(b"\r\n\r\n")[2])["fake"] for raw in requests if b"fake" in raw
    ]
    assert [said(body) for body in told] == [
        fake["text"] * fake.get("tokens", 1) for fake in wanted
    ]


def test_the_rest_of_a_request_may_come_after_the_first_is_answered(served: Served) -> None:
    """Half of its headers are there for longer than headers may take, behind a stream that takes longer."""
    second = plain("two")
    with connect(served) as connection:
        connection.sendall(stream("one ", tokens=8, delay=HEADER_TIMEOUT / 4) + second[:30])
        answers = Answers(connection)
        assert said(answers.take(1)[0]) == "one " * 8
        connection.sendall(second[30:])
        assert said(answers.take(2)[1]) == "two"


MODELS = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_client_that_goes_is_done_with(served: Served) -> None:
    before = len(served.stderr)
    with connect(served) as connection:
        connection.sendall(plain("one", silent=True) + MODELS)
        wait_for(lambda: "silent" in served.llama_log, "llama-server has been asked")
    wait_for(lambda: "client gone" in served.llama_log, "upstream ended")
    wait_for(lambda: "client_gone" in served.stderr[before:], "it was noted")
    with connect(served) as connection:
        connection.sendall(plain("two") + MODELS)
        assert said(Answers(connection).take(2)[0]) == "two"
    listed = '"route": "/v1/models"'
    wait_for(lambda: listed in served.stderr[before:], "the second list is in the log")
    assert served.stderr[before:].count(listed) == 1  # the first was never begun
    assert "ASGI" not in served.stderr[before:]
