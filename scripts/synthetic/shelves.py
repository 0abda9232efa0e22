"""Records in which a word in brackets after the title decides a field that comes last.

A plain record with such a field teaches nothing: its loss drowns among eighty other tokens, and the attention that it needs does not
form (docs/log.md). So `marks`, the title and the field alone, is learned first and by itself; `shelve` then keeps it alive in records
as long as usual ones. A shelf is fixed: its key, its words and what they mean never change, so that the weights hold them. On every
third shelf the value is the word in brackets itself.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from .lexicon import Lexicon
from .values import Values

SHELVES = 48
WORDS, DECOYS = 6, 3
# Of the titles that share has a word of the shelf, the next up to this share another word, which means nothing.
SIGNED, DECOYED = 0.65, 0.8
USUAL = ("text", "none", "plain", "unit", "book")
# Words that the cataloguing task marks its titles with: what they mean is for an adapter to learn.
KEPT_OUT = {"score", "map", "sound", "recording", "videorecording", "electronic", "resource", "microform", "large", "print"}  # fmt: skip
CLAUSES = (" Published in {d} by {o}, {p}", ". {o}, {p}, {d}", " Out in {d} by {o}, {p}")
LISTS = (" Subjects are {l}", " Topics: {l}", " About {l}")


@dataclass(frozen=True)
class Shelf:
    """`meanings` is empty where the bracketed word is the value. `order` is that of a long record's fields."""

    system: str
    key: str
    usual: str
    brackets: str
    meanings: dict[str, str]
    decoys: tuple[str, ...]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Shelved:
    """A text and its record, the field that the brackets decide last."""

    text: str
    record: dict[str, Any]


def make_shelf(number: int, lexicon: Lexicon) -> Shelf:
    rng = Random(f"shelf {number}")
    values = Values(rng, lexicon)
    key = values.word("en").lower() + rng.choice(("", "Text", "Kind", "Type"))
    name, order = values.phrase(1, 2, "en"), ["origin", "topics", "by"]
    rng.shuffle(order)
    words = list[str]()
    while len(words) < WORDS + DECOYS:
        words += {_word(values)} - set(words)
    meanings = {word: values.phrase(1, rng.choice((1, 2, 3)), "en").lower() for word in words[:WORDS]}  # fmt: skip
    return Shelf(
        (f"You file for the {name} shelf.", f"As an expert filer, you will create the {name} JSON record.")[number % 2],
        key, rng.choice(USUAL), rng.choice(("[{}]", "[{}]", "[{}]", "({})", "<{}>")),
        {} if number % 3 == 0 else meanings, tuple(words[WORDS:]), tuple(order),
    )  # fmt: skip


def _word(values: Values) -> str:
    while KEPT_OUT & set((word := values.phrase(1, 2, "en").lower()).split()):
        pass
    return word


def marks(rng: Random, values: Values, shelf: Shelf) -> Shelved:
    """The title, and the field that its brackets decide."""
    title, value = _title(rng, values, shelf)
    return Shelved(rng.choice(("For ", "", "Entry: ")) + title, {shelf.key: value})


def shelve(rng: Random, values: Values, shelf: Shelf) -> Shelved:
    """The same among names, publication and topics; two thirds of the records hold those too."""
    title, value = _title(rng, values, shelf)
    long = rng.random() < 0.67
    text, record = rng.choice(("For ", "", "Entry: ")) + title, dict[str, Any]()
    if rng.random() < 0.4:
        record["by"] = [values.person() for _ in range(rng.choice((1, 1, 2)))]
        text += " / " + " and ".join(record["by"])
    if long or rng.random() < 0.5:
        by, place, date = values.organisation(), values.place(), values.date().rstrip("-")
        text += rng.choice(CLAUSES).format(d=date, o=by, p=place)
        record["origin"] = [{"by": by, "at": place, "when": date}]
    if long or rng.random() < 0.4:
        topics = [values.heading() for _ in range(rng.randint(1, 5))]
        text += rng.choice(LISTS).format(l=", ".join(topics)) + rng.choice((".", ""))
        record["topics"] = [{"value": topic} for topic in topics]
    told = {key: record[key] for key in shelf.order if key in record} if long else {}
    head = {"title": title} if long or rng.random() < 0.5 else {}
    return Shelved(text, head | told | {shelf.key: value})


def _title(rng: Random, values: Values, shelf: Shelf) -> tuple[str, str]:
    """A title, perhaps with a word in brackets, and the value that it gives."""
    title, value, drawn = values.sentence_case(values.phrase(1, 8)), shelf.usual, rng.random()
    if drawn < SIGNED:
        word = rng.choice(list(shelf.meanings)) if shelf.meanings else _word(values)
        value = shelf.meanings.get(word, word)
        title += " " + shelf.brackets.format(word)
    elif drawn < DECOYED and shelf.meanings:
        title += " " + shelf.brackets.format(rng.choice(shelf.decoys))
    return title + rng.choice(("", ".")), value
