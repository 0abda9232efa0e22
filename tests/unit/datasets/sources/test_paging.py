"""Which pages are asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.datasets.sources.paging import Page, at_random, in_order


def test_pages_in_order_cover_everything_once() -> None:
    assert list(in_order(250, 100)) == [Page(0, 100), Page(100, 100), Page(200, 50)]
    assert list(in_order(0, 100)) == []


@given(st.integers(0, 3000), st.integers(1, 500), st.integers(1, 120), st.integers(-5, 5))
def test_a_sample_has_each_place_at_most_once(total: int, count: int, size: int, seed: int) -> None:
    places = []
    for page in at_random(total, count, size, seed):
        assert page.wanted is not None
        assert 1 <= page.limit <= size
        assert page.wanted[-1] + 1 == page.limit
        places += [page.offset + place for place in page.wanted]
    assert len(places) == len(set(places)) == min(total, 2 * count + 1000)
    assert all(0 <= place < total for place in places)


def test_the_same_seed_gives_the_same_pages() -> None:
    assert list(at_random(5000, 100, 50, 3)) == list(at_random(5000, 100, 50, 3))
    assert list(at_random(5000, 100, 50, 3)) != list(at_random(5000, 100, 50, 4))


def test_a_sample_is_fair() -> None:
    """Over 2,000 seeds each tenth of the collection is drawn as often: 2,000 times, σ about 42."""
    tenths: Counter[int] = Counter()
    for seed in range(2000):
        drawn = 0
        for page in at_random(100, 10, 10, seed):
            assert page.wanted is not None
            tenths.update((page.offset + place) // 10 for place in page.wanted)
            drawn += len(page.wanted)
            if drawn >= 10:
                break
    assert set(tenths) == set(range(10))
    assert all(1800 < count < 2200 for count in tenths.values())


def test_a_thin_sample_reads_little() -> None:
    pages = []
    wanted = 0
    for page in at_random(1_000_000, 100, 100, 1):
        assert page.wanted is not None
        pages.append(page)
        wanted += len(page.wanted)
        if wanted >= 100:
            break
    assert len(pages) <= 100
    assert sum(page.limit for page in pages) < 1000


@pytest.mark.parametrize("total", [0, 1, 9])
def test_a_sample_larger_than_the_collection_is_the_collection(total: int) -> None:
    pages = list(at_random(total, 10**9, 100, 1))
    assert sum(len(page.wanted or ()) for page in pages) == total
