"""A header is read from elsewhere by ranges: little is fetched, and nothing is believed."""

import struct
from pathlib import Path

import pytest

from corral.errors import CorralError, InvalidModel, NotFound, PermissionDenied, UpstreamError
from corral.registry.gguf_header import read_header
from corral.registry.remote_header import FIRST_BYTES, MAX_BYTES, read_remote_header, read_through
from tests.fakes.gguf_file import gguf, text
from tests.fakes.range_server import RangeServer

MODEL = gguf(elements=4_000_000)
# A vocabulary that makes the header longer than the first request.
LONG = gguf({"tokenizer.ggml.tokens": [f"token {n:06}" for n in range(120_000)]}, elements=100_000)


def test_a_small_header_takes_one_request_of_a_large_file() -> None:
    with RangeServer(MODEL) as server:
        found = read_remote_header(server.url)
    assert server.ranges == [(0, FIRST_BYTES)]
    assert found.header.context_length == 4096
    assert found.header.size == len(MODEL)
    assert [tensor.shape for tensor in found.header.tensors] == [(4_000_000,)]
    assert found.head == MODEL[: found.header.data_start]


def test_it_is_the_same_as_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(LONG)
    with RangeServer(LONG) as server:
        assert read_remote_header(server.url).header == read_header(path, details=True)


def test_a_long_header_grows_what_is_asked_for_and_asks_for_nothing_twice() -> None:
    with RangeServer(LONG) as server:
        found = read_remote_header(server.url)
    assert found.header.array_lengths["tokenizer.ggml.tokens"] == 120_000
    assert found.head == LONG[: found.header.data_start]
    assert len(server.ranges) > 1
    ends = [end for _, end in server.ranges]
    assert [start for start, _ in server.ranges] == [0, *ends[:-1]]
    assert server.sent <= 4 * found.header.data_start


def test_a_header_longer_than_any_is_refused_before_it_is_fetched() -> None:
    hostile = (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 1 << 25)
    )
    asked: list[int] = []

    def fetch(start: int, length: int) -> tuple[bytes, int]:
        asked.append(length)
        return (hostile + bytes(FIRST_BYTES))[start : start + length], 1 << 40

    with pytest.raises(InvalidModel, match=f"its header is longer than {MAX_BYTES} bytes; no"):
        read_through(fetch, "http://host/m.gguf")
    assert asked == [FIRST_BYTES]


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, PermissionDenied, "answered 401: the model is gated or private; accept its terms on the hub and set HF_TOKEN"),
        (403, PermissionDenied, "answered 403: the model is gated or private; accept its terms on the hub and set HF_TOKEN"),
        (404, NotFound, "answered 404: there is no such file"),
        (200, UpstreamError, "ignores range requests, so its header cannot be read alone; fetch the file (`corral models pull`)"),
        (416, UpstreamError, "answered 416 to a range request; try again later"),
        (500, UpstreamError, "answered 500 to a range request; try again later"),
    ],
)  # fmt: skip
def test_other_answers_are_told(status: int, kind: type[CorralError], message: str) -> None:
    with RangeServer(MODEL, status=status) as server, pytest.raises(kind) as caught:
        read_remote_header(server.url)
    assert caught.value.message == f"{server.url} {message}"


def test_a_file_that_is_no_model_is_refused() -> None:
    with (
        RangeServer(b"<html>" + bytes(500)) as server,
        pytest.raises(InvalidModel, match="is no GGUF"),
    ):
        read_remote_header(server.url)


def test_a_file_shorter_than_its_header_says_is_refused() -> None:
    with (
        RangeServer(MODEL[:-100]) as server,
        pytest.raises(InvalidModel, match="the last 100 bytes of the weights are missing"),
    ):
        read_remote_header(server.url)


def test_a_file_that_changes_meanwhile_is_told() -> None:
    with RangeServer(LONG, grows=True) as server, pytest.raises(UpstreamError) as caught:
        read_remote_header(server.url)
    assert caught.value.message == f"{server.url} changed while it was read; try again"


def test_a_server_that_stops_sending_does_not_hang() -> None:
    with RangeServer(LONG, silent=True) as server, pytest.raises(UpstreamError) as caught:
        read_remote_header(server.url)
    assert caught.value.message == (
        f"{server.url}: the server sent nothing at byte {FIRST_BYTES}; try again"
    )


def test_nobody_there_is_told() -> None:
    with RangeServer(MODEL) as server:
        url = server.url
    with pytest.raises(UpstreamError, match=r"cannot be read: .*; check the address or try again"):
        read_remote_header(url)


def test_a_redirect_to_another_host_gets_no_token() -> None:
    with RangeServer(MODEL) as storage:
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        with RangeServer(b"", location=elsewhere) as hub:
            headers = {"Authorization": "Bearer hf_secret"}
            assert read_remote_header(hub.url, headers).header.architecture == "llama"
    assert hub.tokens == ["Bearer hf_secret"]
    assert storage.tokens == [None]
