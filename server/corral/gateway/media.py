"""Pictures, sound and films in requests: sent with the request, never fetched, unless from a named host. Pure.

llama-server fetches every address that begins with `http` by itself, from where it runs, and follows
redirects: a request could make it ask any server of this network. So addresses are refused here,
before it sees them, except those of the hosts in `media_hosts`. Does not cover: where such a host
redirects to, and which address its name has.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from corral.errors import BadRequest

# Where a request holds messages or their parts, in every API that is passed on.
HOLDERS = ("messages", "input", "content", "prompt", "system")
# Where a message or a part holds further parts.
NESTED = ("content", "output")
# Fields of a part that hold media: its text, or an object that has it under one of ADDRESSES.
MEDIA = frozenset(
    ("image_url", "input_audio", "audio_url", "input_video", "video_url", "input_image", "file",
     "file_url", "file_data", "source")
)  # fmt: skip
ADDRESSES = ("url", "data", "file_url", "file_data", "uri")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# What parsers of addresses disagree on, and no address of a picture needs.
UNCLEAR = re.compile(r"[\\@\s\x00-\x20\x7f]")


def check(body: Mapping[str, Any], hosts: Collection[str]) -> None:
    """Refuse a request that names media by an address whose host is not one of `hosts`."""
    for holder in HOLDERS:
        value = body.get(holder)
        if isinstance(value, list | dict):
            for where, address in _addresses(value, holder):
                _check(address, where, hosts)


def _addresses(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text that stands where llama-server looks for media, and its path."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if not _is_plain(item):
                yield from _addresses(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key in value.keys() & MEDIA:
            yield from _of_media(value[key], f"{where}.{key}")
        for key in NESTED:
            if isinstance(value.get(key), list | dict):
                yield from _addresses(value[key], f"{where}.{key}")


def _is_plain(item: Any) -> bool:
    """Text, or a message that is only text: nearly all of them."""
    if type(item) is not dict:
        return not isinstance(item, list)
    return type(item.get("content")) is str and MEDIA.isdisjoint(item) and "output" not in item


def _of_media(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key in ADDRESSES:
            if isinstance(value.get(key), str):
                yield f"{where}.{key}", value[key]


def _check(address: str, where: str, hosts: Collection[str]) -> None:
    start = address[:2048].lstrip().lower()
    # llama-server fetches whatever begins with these four letters.
    has_scheme = start.startswith("http") or SCHEME.match(start)
    if not has_scheme or address.startswith("data:"):
        return
    if _host(address) in {host.lower() for host in hosts}:
        return
    allowed = ", ".join(f"`{host}`" for host in sorted(hosts)) or "none"
    raise BadRequest(
        f"`{where}` is an address ({start[:80]}), and this server fetches from no host but: {allowed} "
        "(setting `media_hosts`); send the content itself, as a data: URL",
        param=where,
        code="remote_media_not_allowed",
    )


def _host(address: str) -> str | None:
    """The host of a plain http or https address; None for anything else."""
    if UNCLEAR.search(address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None
