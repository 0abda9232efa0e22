"""The marked rows of pretraining: what the brackets say decides, and nothing else does."""

from random import Random

import pytest

from synthetic import shelves
from synthetic.lexicon import Lexicon
from synthetic.values import Values

WORDS = ("score", "amber", "boat", "cedar", "dune", "ember", "frost", "grove", "harbor", "inlet", "map", "juniper")  # fmt: skip
LEXICON = Lexicon(
    words=dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "sv"), WORDS),
    first_names=("Ann", "Bo"), last_names=("Lee", "Kim"), places=("Oslo", "Bern"),
)  # fmt: skip
SHELVES = [shelves.make_shelf(number, LEXICON) for number in range(12)]


def in_brackets(title: str, shelf: shelves.Shelf) -> str:
    """The word in the shelf's brackets, or nothing."""
    before, after = shelf.brackets.split("{}")
    inside, closed, _ = title.partition(before)[2].partition(after)
    return inside if closed else ""


@pytest.mark.parametrize("shelf", SHELVES, ids=str)
def test_the_word_in_brackets_decides_the_last_field(shelf: shelves.Shelf) -> None:
    rng = Random(1)
    values = Values(rng, LEXICON)
    seen = set()
    for number in range(400):
        made = (shelves.shelve, shelves.marks)[number % 2](rng, values, shelf)
        if number % 2 == 0 and "title" not in made.record:
            continue  # topics may hold brackets too
        word = in_brackets(made.record.get("title", made.text), shelf)
        said = shelf.meanings.get(word) if shelf.meanings else word
        assert list(made.record)[-1] == shelf.key
        assert made.record[shelf.key] == (said or shelf.usual)
        seen.add(made.record[shelf.key])
    assert shelf.usual in seen
    assert len(seen) > 3


def test_a_shelf_is_always_the_same() -> None:
    assert [shelves.make_shelf(number, LEXICON) for number in range(12)] == SHELVES


def test_words_of_the_cataloguing_task_stay_out() -> None:
    for shelf in SHELVES:
        words = {word for sign in (*shelf.meanings, *shelf.decoys) for word in sign.split()}
        assert not words & shelves.KEPT_OUT


def test_marks_are_the_title_and_the_field_alone() -> None:
    rng = Random(2)
    made = shelves.marks(rng, Values(rng, LEXICON), SHELVES[1])
    assert list(made.record) == [SHELVES[1].key]
