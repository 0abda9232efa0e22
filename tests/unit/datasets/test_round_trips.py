"""Every format to every other and back: what survives is the same, what does not is reported."""

import pytest

from corral.datasets.findings import Place
from corral.datasets.rows import Row
from tests.unit.datasets import corpus

# Of each corpus, how many rows come back exactly as they were from each format, in the order of
# NAMES: openai, openai-dpo, prompt-completion, mlx, mlx-text, sharegpt, alpaca, axolotl,
# axolotl-completion, trl, gemini, bedrock. The rest is reported, which another test holds. A smaller number is a regression, a greater one an improvement:
# change the table with the code, and look at what the report says of the rest.
SURVIVORS = {
    "openai": (19, 0, 4, 14, 4, 6, 5, 16, 4, 14, 6, 4),
    "openai-dpo": (0, 3, 0, 0, 0, 2, 2, 2, 0, 2, 0, 0),
    "prompt-completion": (3, 0, 3, 3, 0, 3, 3, 3, 0, 3, 2, 2),
    "mlx": (2, 0, 1, 3, 2, 3, 2, 3, 2, 3, 2, 2),
    "mlx-text": (2, 0, 0, 2, 5, 2, 2, 2, 5, 5, 2, 2),
    "sharegpt": (3, 1, 1, 3, 2, 5, 3, 4, 2, 4, 3, 2),
    "alpaca": (4, 1, 2, 4, 4, 5, 5, 5, 4, 5, 3, 3),
    "axolotl": (4, 1, 1, 3, 2, 3, 3, 5, 2, 4, 1, 1),
    "axolotl-completion": (0, 0, 0, 0, 2, 0, 0, 0, 2, 2, 0, 0),
    "trl": (2, 3, 1, 2, 1, 5, 4, 6, 1, 8, 1, 1),
    "gemini": (4, 0, 0, 4, 1, 1, 1, 4, 1, 4, 4, 1),
    "bedrock": (2, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2),
}


def there_and_back(source: str, target: str, raw: bytes) -> tuple[Row, Row | None, Place]:
    """A row, what comes back of it, and a place with all that was reported on the way."""
    at = corpus.place()
    row = corpus.read(source, raw, at)
    assert row is not None, at.findings.kept
    at = corpus.place()
    there = corpus.write(target, row, at)
    if there is None:
        return row, None, at
    assert b"\n" not in there
    met = corpus.read(target, there, at)
    assert met is not None, (there, at.findings.kept)
    back = corpus.write(source, met, at)
    if back is None:
        return row, None, at
    final = corpus.read(source, back, at)
    assert final is not None, (back, at.findings.kept)
    return row, final, at


@pytest.mark.parametrize("source", corpus.NAMES)
def test_nothing_is_lost_in_silence(source: str) -> None:
    for target in corpus.NAMES:
        for raw in corpus.lines(source):
            row, final, at = there_and_back(source, target, raw)
            if final != row:
                reported = [f for f in at.findings.kept if f.severity in ("loss", "note")]
                assert reported, f"{source} → {target} → {source} in silence:\n{row}\n{final}"
            if final is None:
                assert at.findings.count("loss"), f"left out without a loss: {row}"


@pytest.mark.parametrize("source", corpus.NAMES)
def test_what_can_survive_survives(source: str) -> None:
    found = []
    for target in corpus.NAMES:
        trips = [there_and_back(source, target, raw) for raw in corpus.lines(source)]
        found.append(sum(final == row for row, final, _ in trips))
    assert tuple(found) == SURVIVORS[source]
