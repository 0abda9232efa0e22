"""Which pages to ask a paged API for: in order, or those that hold a fair sample."""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

# Records without a title or the like give no row, so a sample is drawn larger than was asked for.
_SPARE = 1000


class Page(NamedTuple):
    """One request. `wanted` are the places in the page to use; None means all of them."""

    offset: int
    limit: int
    wanted: tuple[int, ...] | None = None


def in_order(total: int, size: int) -> Iterator[Page]:
    """Every page from the first on."""
    for offset in range(0, total, size):
        yield Page(offset, min(size, total - offset))


def at_random(total: int, count: int, size: int, seed: int) -> Iterator[Page]:
    """Pages that hold `count` records drawn without replacement, each as likely as any other; then
    pages with spare ones. The same arguments give the same pages.

    Records that lie close together share a request, so a thin sample of a large collection costs
    a request for each record and a dense one reads the collection once.
    """
    places = Random(seed).sample(range(total), min(total, 2 * count + _SPARE))
    yield from _windows(places[:count], size)
    # Small groups: within one, low offsets come first, and the caller stops when it has enough.
    group = max(10, count // 20)
    for start in range(count, len(places), group):
        yield from _windows(places[start : start + group], size)


def _windows(places: list[int], size: int) -> Iterator[Page]:
    start: int | None = None
    wanted: list[int] = []
    for place in sorted(places):
        if start is not None and place >= start + size:
            yield Page(start, wanted[-1] + 1, tuple(wanted))
            start = None
        if start is None:
            start, wanted = place, []
        wanted.append(place - start)
    if start is not None:
        yield Page(start, wanted[-1] + 1, tuple(wanted))
