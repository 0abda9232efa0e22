"""Metadata from a file's head and path."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from corral.datasets.sources.front_matter import of_path, split


@pytest.mark.parametrize(
    ("text", "metadata", "rest"),
    [
        ("---\ntitle: A\ntags: [x, y]\n---\n# A\n", {"title": "A", "tags": ["x", "y"]}, "# A\n"),
        ("---\ndate: 2024-05-01\nn: 1\n...\nrest", {"date": "2024-05-01", "n": 1}, "rest"),
        ("---\n1: one\nnone:\n---", {"1": "one", "none": None}, ""),
        ("---\nx: .nan\n---\n", {"x": "nan"}, ""),
        ("---\n# only a comment\n---\nrest", {}, "rest"),
        ("---\na list\n---\nrest", {}, "---\na list\n---\nrest"),
        ("text\n---\na: 1\n---\n", {}, "text\n---\na: 1\n---\n"),
        ("---\nno end", {}, "---\nno end"),
        ("", {}, ""),
    ],
)
def test_split(text: str, metadata: dict[str, Any], rest: str) -> None:
    assert split(text) == (metadata, rest)


@pytest.mark.parametrize("block", ["a: [", "a: 1\n b: 2", "x: !!python/object:os.system {}"])
def test_a_broken_block_is_said_and_nothing_in_it_is_run(block: str) -> None:
    with pytest.raises(ValueError, match=r"front matter is not YAML, line \d"):
        split(f"---\n{block}\n---\n")


def test_a_path_says_the_source_and_the_topics() -> None:
    assert of_path(PurePosixPath("a.md")) == {"source": "a.md"}
    assert of_path(PurePosixPath("x/y/a.md")) == {"source": "x/y/a.md", "topics": ["x", "y"]}
