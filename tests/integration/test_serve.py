"""`corral serve` over the fake llama-server: what goes through, and what comes back."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.served import Served, ask, ask_stream, chat, serve, wait_for


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = {"CORRAL_MAX_BODY_BYTES": "65536", "CORRAL_HEADER_TIMEOUT": "0.5"}
    with serve(tmp_path_factory.mktemp("served"), **limits, CORRAL_BODY_TIMEOUT="0.5") as running:
        yield running


async def test_ready_tells_what_is_loaded(served: Served) -> None:
    async with aiohttp.ClientSession() as session, session.get(served.url + "/ready") as answer:
        state = await answer.json()
    assert state["status"] == "ready"
    assert state["sections"]["tiny@1"] == "loaded"


@pytest.mark.parametrize(
    ("model", "scale"),
    [("tiny", 0.0), ("openai/tiny", 0.0), ("tuned", 1.0), ("gpt-4o", 1.0), ("openai%2Ftuned", 1.0)],
)
async def test_the_name_asked_for_comes_back_and_the_adapter_goes_up(
    served: Served, model: str, scale: float
) -> None:
    status, answer = await ask(served.url, {**chat(model), "unknown": {"kept": [1.5]}})
    assert status == 200
    assert answer["model"] == model
    received = answer["received"]
    assert received["model"] == model  # renamed with the rest: it is bytes that are replaced
    assert received["lora"] == [{"id": 0, "scale": scale}]
    assert received["unknown"] == {"kept": [1.5]}


@pytest.mark.parametrize(
    ("tools", "scale"), [(None, 1.0), ([], 1.0), ([{"type": "function"}], 0.0)]
)
async def test_an_alias_means_another_model_for_requests_with_tools(
    served: Served, tools: list[Any] | None, scale: float
) -> None:
    _, answer = await ask(served.url, {**chat("gpt-4o"), "tools": tools})
    assert answer["model"] == "gpt-4o"
    assert answer["received"]["lora"] == [{"id": 0, "scale": scale}]


async def test_a_model_without_adapters_gets_no_lora(served: Served) -> None:
    _, answer = await ask(served.url, chat("other"))
    assert "lora" not in answer["received"]


async def test_a_stream_carries_the_name_in_every_chunk(served: Served) -> None:
    events = await ask_stream(served.url, chat("gpt-4o", stream=True, tokens=5))
    assert events[-1] == "[DONE]"
    assert [event["model"] for event in events[:-1]] == ["gpt-4o"] * 5


async def test_a_stream_is_not_held_back(served: Served) -> None:
    """The first token must be here long before the last is made."""
    async with aiohttp.ClientSession() as session:
        body = chat(stream=True, tokens=2, delay=3)
        async with session.post(served.url + "/v1/chat/completions", json=body) as answer:
            first = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 2)
            assert b'"t0"' in first


async def test_text_that_looks_like_the_name_is_left_alone(served: Served) -> None:
    text = 'say "model":"tiny@1" and data: [DONE]'
    _, answer = await ask(served.url, chat("gpt-4o", text=text))
    assert answer["choices"][0]["message"]["content"] == text
    events = await ask_stream(served.url, chat("gpt-4o", stream=True, text=text, tokens=1))
    assert events[0]["choices"][0]["delta"]["content"] == text
    assert events[-1] == "[DONE]"


async def test_a_client_that_goes_away_in_its_body_is_no_bug(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        port = int(served.url.rpartition(":")[2])
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        wait_for(lambda: '"client_gone"' in served.stderr, "it is told")
        assert "Traceback" not in served.stderr


@pytest.mark.parametrize("path", ["/apply-template", "/v1/messages/count_tokens"])
async def test_a_prompt_and_a_count_need_not_have_the_form(tmp_path: Path, path: str) -> None:
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "null"}}}}
    wanted = {"tools": [tool], "tool_choice": {"type": "any"}}
    with serve(tmp_path) as served:
        status, _ = await ask(served.url, chat() | wanted, path)
        assert status == 200


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/apply-template", "/infill"])
async def test_native_routes_have_a_default_model(served: Served, path: str) -> None:
    status, answer = await ask(served.url, {}, path)
    assert (status, answer["model"]) == (200, "tiny")


@pytest.mark.parametrize(
    ("fake", "status", "code"),
    [
        ({"status": 400, "error": "'messages' is required"}, 400, "invalid_request"),
        ({"status": 500, "error": "Failed to parse tools: x"}, 400, "invalid_request"),
        ({"status": 500, "error": "failed to decode"}, 502, "upstream_failed"),
        ({"status": 503, "error": "Loading model"}, 503, "not_ready"),
        ({"raw": '{"half": "proxy error: Failed to read'}, 502, "upstream_failed"),
        (
            {"status": 400, "error": "too long", "type": "exceed_context_size_error"},
            400,
            "context_length_exceeded",
        ),
    ],
)
async def test_upstream_errors_become_the_envelope(
    served: Served, fake: dict[str, Any], status: int, code: str
) -> None:
    for stream in (False, True):
        answered, answer = await ask(served.url, chat(stream=stream, **fake))
        assert (answered, answer["error"]["code"]) == (status, code)
        assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("fault", ["drop_at", "cut_at"])
async def test_an_upstream_that_breaks_off_mid_stream_is_an_error_event(
    served: Served, fault: str
) -> None:
    where: dict[str, Any] = {fault: 3}
    events = await ask_stream(served.url, chat("gpt-4o", stream=True, tokens=5, **where))
    assert [event["model"] for event in events[:3]] == ["gpt-4o"] * 3
    assert events[3]["error"]["code"] == "upstream_failed"
    assert len(events) == 4


async def test_an_error_of_llama_server_in_mid_stream_is_translated(served: Served) -> None:
    events = await ask_stream(served.url, chat(stream=True, tokens=2, error_event="oh no"))
    assert events[2]["error"]["type"] == "upstream_error"
    assert "oh no" in events[2]["error"]["message"]
    assert len(events) == 3


@pytest.mark.parametrize("fault", ["drop_at", "cut_at"])
async def test_an_upstream_that_breaks_off_before_the_first_event_is_502(
    served: Served, fault: str
) -> None:
    async with aiohttp.ClientSession() as session:
        at_once: dict[str, Any] = {fault: 0}
        body = chat(stream=True, **at_once)
        async with session.post(served.url + "/v1/chat/completions", json=body) as answer:
            assert answer.status == 502
            assert answer.headers["Retry-After"]
            assert (await answer.json())["error"]["code"] == "upstream_failed"


@pytest.mark.parametrize(
    "fake", [{"silent": True}, {"tokens": 100, "delay": 0.02}], ids=["waiting", "streaming"]
)
async def test_a_client_that_goes_away_ends_the_upstream_request(
    served: Served, fake: dict[str, Any]
) -> None:
    before = served.llama_log.count("client gone")
    async with aiohttp.ClientSession() as session:
        request = session.post(
            served.url + "/v1/chat/completions",
            json=chat(stream=True, **fake),
            timeout=aiohttp.ClientTimeout(total=0.3),
        )
        with pytest.raises(TimeoutError):
            async with request as answer:
                await answer.read()
    wait_for(lambda: served.llama_log.count("client gone") > before, "upstream was told", 5)


async def test_many_streams_at_once_do_not_mix(served: Served) -> None:
    async def one(index: int) -> None:
        name = ("tiny", "tuned", "gpt-4o")[index % 3]
        body = chat(name, stream=True, tokens=20, text=f"for {index}")
        events = await ask_stream(served.url, body)
        assert {event["model"] for event in events[:-1]} == {name}
        texts = {event["choices"][0]["delta"]["content"] for event in events[:-1]}
        assert texts == {f"for {index}"}

    await asyncio.gather(*(one(index) for index in range(40)))


def address(served: Served) -> tuple[str, int]:
    host, port = served.url.removeprefix("http://").split(":")
    return host, int(port)


def test_headers_that_come_by_drops_are_cut_off(served: Served) -> None:
    with socket.create_connection(address(served), timeout=5) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
        assert slow.recv(1) == b""


def test_what_is_no_http_gets_the_envelope(served: Served) -> None:
    with socket.create_connection(address(served), timeout=5) as odd:
        odd.sendall(b"HELLO\r\n\r\n")
        head, _, body = b"".join(iter(lambda: odd.recv(4096), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"x-request-id: req_" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_a_body_that_comes_by_drops_is_408(served: Served) -> None:
    with socket.create_connection(address(served), timeout=5) as slow:
        slow.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        answer = b"".join(iter(lambda: slow.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"request_timeout"' in answer


def resident(pid: int) -> int:
    """Memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_200_mb_is_413_and_costs_no_memory(served: Served, chunked: bool) -> None:
    size, piece = 200_000_000, b"x" * 100_000
    sent = 0

    async def body() -> Any:
        nonlocal sent
        while sent < size:
            yield piece
            sent += len(piece)

    url = served.url
    before = resident(served.process.pid) if Path("/proc").is_dir() else 0
    headers = {} if chunked else {"Content-Length": str(size)}
    async with aiohttp.ClientSession() as session:
        request = session.post(url + "/v1/embeddings", data=body(), headers=headers)
        async with request as answer:
            assert answer.status == 413
            assert json.loads(await answer.read())["error"]["code"] == "payload_too_large"
            if before:
                assert resident(served.process.pid) - before < 20_000
    assert (await ask(url, chat()))[0] == 200
