"""The marked rows of pretraining: what the brackets say decides, and nothing else does."""

from random import Random
from typing import Any

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


def under_usual_names(value: Any, shelf: shelves.Shelf) -> Any:
    """A record with the names of `shelves.NAMED` for the shelf's own."""
    if isinstance(value, list):
        return [under_usual_names(each, shelf) for each in value]
    if not isinstance(value, dict):
        return value
    usual = {own: name for name, own in shelf.names.items()}
    return {usual.get(key, key): under_usual_names(each, shelf) for key, each in value.items()}


@pytest.mark.parametrize("shelf", SHELVES, ids=str)
def test_the_word_in_brackets_decides_the_last_field(shelf: shelves.Shelf) -> None:
    rng = Random(1)
    values = Values(rng, LEXICON)
    seen = set()
    for number in range(400):
        made = (shelves.shelve, shelves.marks)[number % 2](rng, values, shelf)
        record = under_usual_names(made.record, shelf)
        if "title" not in record and (number % 2 == 0 or shelf.dated[0] in made.record):
            continue  # topics and dates may hold brackets too
        word = in_brackets(record.get("title", made.text), shelf)
        said = shelf.meanings.get(word) if shelf.meanings else word
        assert [*made.record][-1] in (shelf.key, shelf.dated[0])
        assert made.record[shelf.key] == (said or shelf.usual)
        seen.add(made.record[shelf.key])
    assert shelf.usual in seen
    assert len(seen) > 3


def test_what_is_not_said_is_an_empty_list() -> None:
    rng, seen = Random(5), set()
    for _ in range(200):
        made = shelves.shelve(rng, Values(rng, LEXICON), SHELVES[1])
        record = under_usual_names(made.record, SHELVES[1])
        for key, cues in (("makers", (" / ",)), ("topics", ("Subjects are", "Topics:", "About"))):
            if key in record:
                assert bool(record[key]) == any(cue in made.text for cue in cues), made
                seen.add((key, bool(record[key])))
    assert len(seen) == 4


@pytest.mark.parametrize("shelf", SHELVES[:4], ids=str)
def test_what_a_publication_does_not_say_is_null(shelf: shelves.Shelf) -> None:
    rng, seen = Random(7), set()
    for _ in range(200):
        made = shelves.dates(rng, Values(rng, LEXICON), shelf)
        for origin in under_usual_names(made.record, shelf).get("origin", []):
            said = {part: origin[part] is not None for part in ("by", "at")}
            assert said["by"] or not said["at"]
            for part in said:
                assert not said[part] or origin[part] in made.text
            assert said["by"] or made.text.endswith(origin["when"])
            seen.add(tuple(said.values()))
    assert seen == {(True, True), (True, False), (False, False)}


def test_a_shelf_has_names_of_its_own_and_every_fourth_the_usual_ones() -> None:
    for number, shelf in enumerate(SHELVES):
        assert len(set(shelf.names.values())) == len(shelves.NAMED)
        assert (list(shelf.names.values()) == list(shelves.NAMED)) == (number % 4 == 0)


def test_a_shelf_is_always_the_same() -> None:
    assert [shelves.make_shelf(number, LEXICON) for number in range(12)] == SHELVES


def test_words_of_the_cataloguing_task_stay_out() -> None:
    for shelf in SHELVES:
        words = {word for sign in (*shelf.meanings, *shelf.decoys) for word in sign.split()}
        assert not words & shelves.KEPT_OUT


def test_marks_are_the_title_and_the_field_alone() -> None:
    rng = Random(2)
    shelf = SHELVES[1]
    for _ in range(20):
        made = shelves.marks(rng, Values(rng, LEXICON), shelf)
        assert list(made.record) in ([shelf.key], [shelf.key, shelf.dated[0]])


@pytest.mark.parametrize("shelf", SHELVES[:4], ids=str)
def test_an_open_date_decides_the_field_after_it(shelf: shelves.Shelf) -> None:
    rng = Random(3)
    values, seen = Values(rng, LEXICON), set()
    key, when_open, when_closed = shelf.dated
    for _ in range(100):
        record = under_usual_names(shelves.shelve(rng, values, shelf).record, shelf)
        if record.get("origin"):
            is_open = record["origin"][0]["when"].endswith("-")
            assert record[key] == (when_open if is_open else when_closed)
            seen.add(is_open)
    assert seen == {True, False}


@pytest.mark.parametrize("shelf", SHELVES, ids=str)
def test_an_open_date_of_the_publication_decides_and_that_of_a_name_does_not(
    shelf: shelves.Shelf,
) -> None:
    rng, seen = Random(2), set()
    values, (key, when_open, when_closed) = Values(rng, LEXICON), shelf.dated
    for _ in range(60):
        made = shelves.dates(rng, values, shelf)
        record = under_usual_names(made.record, shelf)
        for origin in record.get("origin", []):
            date = origin["when"]
            assert record[key] == (when_open if date.endswith("-") else when_closed)
            seen.add(date.endswith("-"))
        assert set(record) <= {"origin", "topics", key}
    assert seen == {True, False}
