"""No address of a request is fetched unless its host is allowed."""

from typing import Any

import pytest

from corral.errors import BadRequest
from corral.gateway.media import check

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def chat(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}


def picture(url: Any) -> dict[str, Any]:
    return chat({"type": "image_url", "image_url": {"url": url}})


def refused(body: dict[str, Any], *hosts: str) -> str:
    with pytest.raises(BadRequest) as caught:
        check(body, hosts)
    assert caught.value.code == "remote_media_not_allowed"
    assert caught.value.param
    return caught.value.param


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/a.png",
        "HTTPS://example.com/a.png",
        " http://example.com/a.png",
        "\thttp://example.com/a.png",
        "httpx",
        "file:///etc/passwd",
        "file://etc/passwd",
        "FILE:a.png",
        "ftp://example.com/a",
        "gopher://127.0.0.1:6379/_x",
        "DATA:text/plain,x",
        "unix:/run/docker.sock",
    ],
)
def test_every_address_is_refused(url: str) -> None:
    assert refused(picture(url)) == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("url", [PIXEL, "iVBORw0KGgo=", "", "/9j/4AAQSkZJRg=="])
def test_content_that_comes_with_the_request_passes(url: str) -> None:
    check(picture(url), ())


URL = "http://127.0.0.1/x"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            chat({"type": "image_url", "image_url": URL}),
            "messages[0].content[1].image_url",
        ),
        (
            chat({"type": "input_audio", "input_audio": {"data": URL, "format": "wav"}}),
            "messages[0].content[1].input_audio.data",
        ),
        (
            chat({"type": "input_audio", "input_audio": {"url": URL}}),
            "messages[0].content[1].input_audio.url",
        ),
        (
            chat({"type": "video_url", "video_url": {"url": URL}}),
            "messages[0].content[1].video_url.url",
        ),
        (
            chat({"type": "input_video", "input_video": {"data": URL}}),
            "messages[0].content[1].input_video.data",
        ),
        (
            chat({"type": "image", "source": {"type": "url", "url": URL}}),
            "messages[0].content[1].source.url",
        ),
        (
            chat(
                {
                    "type": "tool_result",
                    "content": [{"type": "image", "source": {"type": "url", "url": URL}}],
                }
            ),
            "messages[0].content[1].content[0].source.url",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": URL}]},
                ]
            },
            "input[0].content[0].image_url",
        ),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "output": [{"type": "input_image", "image_url": URL}],
                    },
                ]
            },
            "input[0].output[0].image_url",
        ),
        (
            {"input": [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]},
            "input[0].content[0].image_url.url",
        ),
        (
            {"input": {"content": [{"type": "image_url", "image_url": {"url": URL}}]}},
            "input.content[0].image_url.url",
        ),
        (
            {"content": [{"type": "image_url", "image_url": {"url": URL}}]},
            "content[0].image_url.url",
        ),
    ],
)
def test_everywhere_where_llama_server_would_fetch(body: dict[str, Any], param: str) -> None:
    assert refused(body) == param


def test_text_that_speaks_of_addresses_passes() -> None:
    call = {"type": "tool_use", "name": "fetch", "input": {"url": URL}}
    check(
        {
            "messages": [
                {"role": "user", "content": f"see {URL}"},
                {"role": "user", "content": [{"type": "text", "text": URL}]},
                {"role": "assistant", "content": [call]},
                {"role": "tool", "content": URL},
            ],
            "prompt": URL,
            "input": [URL, [1, 2]],
            "tools": [{"function": {"parameters": {"properties": {"image_url": {}}}}}],
        },
        (),
    )


def test_a_host_that_is_allowed_passes_and_no_other() -> None:
    allowed = "pictures.example"
    check(picture(f"https://{allowed}/a.png"), (allowed,))
    check(picture(f"http://{allowed}:8080/a.png?b=c"), (allowed,))
    for url in (
        f"https://{allowed}.evil.example/a",
        f"https://evil.example/{allowed}",
        f"https://{allowed}@evil.example/",
        f"https://evil.example\\@{allowed}/",
        f"https://evil.example#@{allowed}/",
        f"https://evil.example /@{allowed}/",
        f"file://{allowed}/etc/passwd",
        "https://[broken/",
    ):
        assert refused(picture(url), allowed), url
