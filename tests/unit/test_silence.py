"""An upstream that goes silent is noticed; one that drips, or is not listened to, is let be."""

import asyncio
from unittest.mock import Mock

import aiohttp
import pytest

from corral.gateway.silence import LOOKS, Silence

LIMIT = 0.2


def stream() -> aiohttp.StreamReader:
    return aiohttp.StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())


async def test_a_silence_breaks_the_read_off() -> None:
    content = stream()
    silence = Silence(content, LIMIT)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await content.readany()
    waited = asyncio.get_running_loop().time() - began
    assert LIMIT <= waited < LIMIT * (1 + 1 / LOOKS) + 0.15
    silence.end()


async def test_bytes_that_come_slowly_are_no_silence() -> None:
    content = stream()
    silence = Silence(content, LIMIT)
    for _ in range(6):
        await asyncio.sleep(LIMIT / 2)
        content.feed_data(b"x")
        assert await content.readany() == b"x"
    with pytest.raises(TimeoutError):
        await content.readany()
    silence.end()


async def test_who_does_not_listen_hears_no_silence() -> None:
    content = stream()
    silence = Silence(content, LIMIT)
    silence.listening = False
    await asyncio.sleep(2 * LIMIT)
    silence.listening = True
    content.feed_data(b"x")
    assert await content.readany() == b"x"
    silence.end()
    await asyncio.sleep(2 * LIMIT)
    content.feed_data(b"y")
    assert await content.readany() == b"y"
