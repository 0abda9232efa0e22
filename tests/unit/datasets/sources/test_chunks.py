"""Cutting text."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.datasets.sources.chunks import Chunk, Plan, cut, sections
from corral.errors import BadRequest

TEXT = """Preface.

# Title

Lead.

## One

First paragraph of one.

Second paragraph of one.

```
# not a heading
```

## Two
Text of two.
# Other
End.
"""


def words(text: str) -> list[str]:
    return re.findall(r"\S+", text)


def test_sections_know_their_headings() -> None:
    assert [(chunk.text.split("\n")[0], chunk.headings) for chunk in sections(TEXT)] == [
        ("Preface.", ()),
        ("# Title", ("Title",)),
        ("## One", ("Title", "One")),
        ("## Two", ("Title", "Two")),
        ("# Other", ("Other",)),
    ]


def test_a_text_that_fits_is_one_chunk_with_least() -> None:
    text = "# A\n\n## B\n\nshort\n\n## C\n\nshort"
    assert [chunk.headings for chunk in cut(text, Plan(1000))] == [("A",), ("A", "B"), ("A", "C")]
    assert list(cut(text, Plan(1000, least=100))) == [Chunk(text, ("A",))]


def test_sections_of_other_titles_are_not_put_together() -> None:
    assert len(list(cut("# A\n\nx\n\n# B\n\ny", Plan(1000, least=100)))) == 2


def test_paragraphs_stay_whole_where_they_fit() -> None:
    text = "\n\n".join(f"Paragraph {n} has some words." for n in range(10))
    chunks = list(cut(text, Plan(70)))
    assert all(len(chunk.text) <= 70 for chunk in chunks)
    assert "\n\n".join(chunk.text for chunk in chunks) == text


def test_long_paragraphs_are_cut_at_sentences_then_words() -> None:
    chunks = [chunk.text for chunk in cut("One two three. Four five six. Seven.", Plan(16))]
    assert chunks == ["One two three.", "Four five six.", "Seven."]
    assert [c.text for c in cut("alpha beta gamma delta", Plan(12))] == [
        "alpha beta",
        "gamma delta",
    ]


def test_a_text_without_spaces_is_cut_all_the_same() -> None:
    chunks = [chunk.text for chunk in cut("書" * 100, Plan(30))]
    assert "".join(chunks) == "書" * 100
    assert max(map(len, chunks)) == 30


def test_overlap_says_the_end_of_the_chunk_before_again() -> None:
    text = " ".join(f"word{n:03}" for n in range(100))
    chunks = [chunk.text for chunk in cut(text, Plan(100, overlap=30))]
    assert all(len(chunk) <= 100 for chunk in chunks)
    for one, other in pairwise(chunks):
        again = next(
            n for n in range(len(words(other)), 0, -1) if words(one)[-n:] == words(other)[:n]
        )
        assert 1 <= again <= 4


def test_length_can_be_counted_in_tokens() -> None:
    chunks = list(cut("a b c d e f g", Plan(3), lambda text: len(words(text))))
    assert [chunk.text for chunk in chunks] == ["a b c", "d e f", "g"]


@given(
    st.text(st.sampled_from("ab. \n#書é-`"), max_size=400),
    st.integers(1, 60),
    st.integers(0, 30),
    st.integers(0, 40),
)
def test_no_character_is_lost_and_none_is_too_long(
    text: str, size: int, overlap: int, least: int
) -> None:
    chunks = list(cut(text, Plan(size, 0, least)))
    assert "".join("".join(words(chunk.text)) for chunk in chunks) == "".join(words(text))
    assert all(0 < len(chunk.text) <= size for chunk in chunks)
    overlapping = list(cut(text, Plan(size, min(overlap, size // 2), least)))
    assert all(0 < len(chunk.text) <= size for chunk in overlapping)


def test_a_million_characters_without_a_break_take_no_time() -> None:
    assert len(list(cut("x" * 1_000_000, Plan(1000)))) == 1000


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_a_plan_that_cannot_be_cut_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(BadRequest, match="at most half"):
        Plan(size, overlap)
