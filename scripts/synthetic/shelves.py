"""Records whose last two fields follow from signs: a word in brackets after the title, and a date that is open.

A plain record with such fields teaches nothing: their loss drowns among eighty other tokens, and the attention that they need does not
form (docs/log.md). So `marks` and `dates`, with little beside the field that is decided, are learned first and by themselves; `shelve`
then keeps that alive in records as long as usual ones. A shelf is fixed: its keys, its words and what they mean never change, so that the weights hold them. On
every third shelf the first value is the word in brackets itself.
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
OPEN = 0.4  # of the dates
BARE = 0.5  # of the shelves
SAID = 0.85  # of publications and of topics in long records
UNSAID = 0.1  # of publications: neither body nor place; and as many no place
# The parts of a record, of which a shelf has names of its own; the values of these tell at once whether anything is said.
SAYS = ("origin", "topics", "makers", "by", "at")
NAMED = (*SAYS, "title", "when", "value", "none", "kind")
USUAL = ("text", "none", "plain", "unit", "book")
# Words that the cataloguing task marks its titles with: what they mean is for an adapter to learn.
KEPT_OUT = {"score", "map", "sound", "recording", "videorecording", "electronic", "resource", "microform", "large", "print"}  # fmt: skip
CLAUSES = (" Published in {d} by {o}, {p}", ". {o}, {p}, {d}", " Out in {d} by {o}, {p}")
BARE_CLAUSES = (" Published in {d}", " Out in {d}")
LISTS = (" Subjects are {l}", " Topics: {l}", " About {l}")


@dataclass(frozen=True)
class Shelf:
    """`meanings` is empty where the bracketed word is the value. `dated` is a key and its values for an open and a closed date.
    `order` is that of a long record's fields. A `bare` shelf leaves out the stop that ends a title, a `wrapped` one makes objects of makers, a
    `filled` one has a list without members and a word that is always the same. `names` are its own for what NAMED lists."""

    system: str
    key: str
    usual: str
    brackets: str
    meanings: dict[str, str]
    decoys: tuple[str, ...]
    dated: tuple[str, str, str]
    order: tuple[str, ...]
    bare: bool
    wrapped: bool
    filled: bool
    names: dict[str, str]

    @property
    def deciding(self) -> tuple[str, ...]:
        """The keys whose values a small sign decides."""
        return (self.key, self.dated[0], *(self.names[part] for part in SAYS))

    def named(self, value: Any) -> Any:
        """A record, or a part of one, under the shelf's own names."""
        if isinstance(value, list):
            return [self.named(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {self.names.get(key, key): self.named(each) for key, each in value.items()}


@dataclass(frozen=True)
class Shelved:
    """A text and its record, the fields that signs decide last."""

    text: str
    record: dict[str, Any]


def make_shelf(number: int, lexicon: Lexicon) -> Shelf:
    rng = Random(f"shelf {number}")
    values = Values(rng, lexicon)
    key = values.word("en").lower() + rng.choice(("", "Text", "Kind", "Type"))
    name, order = values.phrase(1, 2, "en"), ["origin", "topics", "makers"]
    rng.shuffle(order)
    words = list[str]()
    while len(words) < WORDS + DECOYS:
        words += {_word(values)} - set(words)
    dated = tuple(values.phrase(1, high, "en").lower() for high in (1, 2, 2))
    meanings = {word: values.phrase(1, rng.choice((1, 2, 3)), "en").lower() for word in words[:WORDS]}  # fmt: skip
    return Shelf(
        (f"You file for the {name} shelf.", f"As an expert filer, you will create the {name} JSON record.")[number % 2],
        key, rng.choice(USUAL), rng.choice(("[{}]", "[{}]", "[{}]", "({})", "<{}>")),
        {} if number % 3 == 0 else meanings, tuple(words[WORDS:]), (dated[0] + rng.choice(("", "Text", "Of")), dated[1], dated[2]), tuple(order),
        rng.random() < BARE, rng.random() < 0.5, rng.random() < 0.5, _names(number, values),
    )  # fmt: skip


def _names(number: int, values: Values) -> dict[str, str]:
    """One for each of NAMED, all different; on every fourth shelf just those."""
    words = dict.fromkeys(NAMED) if number % 4 == 0 else dict[str, None]()
    while len(words) < len(NAMED):
        words[values.word("en").lower()] = None
    return dict(zip(NAMED, words, strict=True))


def _word(values: Values) -> str:
    while KEPT_OUT & set((word := values.phrase(1, 2, "en").lower()).split()):
        pass
    return word


def marks(rng: Random, values: Values, shelf: Shelf) -> Shelved:
    """The title, perhaps a date, and the fields that their signs decide."""
    title, decided = _title(rng, values, shelf)
    date = _date(rng, values)
    if rng.random() < 0.5:
        title += rng.choice(CLAUSES).format(d=date, o=values.organisation(), p=values.place())
        decided |= _dated(shelf, date)
    return Shelved(rng.choice(("For ", "", "Entry: ")) + title, decided)


def dates(rng: Random, values: Values, shelf: Shelf) -> Shelved:
    """A title, perhaps names with dates of their own, a publication, and the field that its date decides."""
    text, date = values.sentence_case(values.phrase(1, 6)), _date(rng, values)
    if rng.random() < 0.3:
        text += " / " + " and ".join(values.person() for _ in range(rng.choice((1, 1, 2))))
    head = rng.choice(("For ", "", "Entry: "))
    if rng.random() > SAID:
        topics = _topics(rng, values) if rng.random() < 0.5 else []
        none = shelf.named({"origin": [], "topics": _valued(topics)})
        return Shelved(head + text + _listed(rng, topics), none)
    clause, origin = _published(rng, values, date)
    record = shelf.named({"origin": [origin]}) if rng.random() < 0.5 else {}
    return Shelved(head + text + clause, record | _dated(shelf, date))


def shelve(rng: Random, values: Values, shelf: Shelf) -> Shelved:
    """The same among names, publication and topics; two thirds of the records hold those too, and [] for what is not said."""
    title, decided = _title(rng, values, shelf)
    long = rng.random() < 0.67
    text, record = rng.choice(("For ", "", "Entry: ")) + title, dict[str, Any]()
    if rng.random() < 0.4:
        makers = [_maker(rng, values) for _ in range(rng.choice((1, 1, 2, 3)))]
        record["makers"] = _valued(makers) if shelf.wrapped else makers
        text += " / " + " and ".join(makers)
        text += rng.choice((".", "")) if text[-1] not in ".]" else ""
    if rng.random() < (SAID if long else 0.5):
        date = _date(rng, values)
        clause, origin = _published(rng, values, date)
        text += clause
        record["origin"] = [origin | ({"kind": shelf.usual} if shelf.filled else {})]
        decided |= _dated(shelf, date)
    elif long:
        decided |= _dated(shelf, "")
    if rng.random() < (SAID if long else 0.4):
        topics = _topics(rng, values)
        text += _listed(rng, topics)
        record["topics"] = _valued(topics)
    told = {key: record.get(key, []) for key in shelf.order} if long else {}
    told |= {"none": []} if long and shelf.filled else {}
    head = {"title": title.removesuffix(".") if shelf.bare else title} if long or rng.random() < 0.5 else {}  # fmt: skip
    return Shelved(text, shelf.named(head | told) | decided)


def _title(rng: Random, values: Values, shelf: Shelf) -> tuple[str, dict[str, str]]:
    """A title, perhaps with a word in brackets, and the field that it decides."""
    title, value, drawn = values.sentence_case(values.phrase(1, 8)), shelf.usual, rng.random()
    if drawn < SIGNED:
        word = rng.choice(list(shelf.meanings)) if shelf.meanings else _word(values)
        value = shelf.meanings.get(word, word)
        title += " " + shelf.brackets.format(word)
    elif drawn < DECOYED and shelf.meanings:
        title += " " + shelf.brackets.format(rng.choice(shelf.decoys))
    return title + rng.choice(("", ".")), {shelf.key: value}


def _maker(rng: Random, values: Values) -> str:
    """A person, or a body with a part after a stop, as `Council of Lund. Annex`."""
    if rng.random() < 0.6:
        return values.person()
    parts = [values.organisation().replace(",", ""), *(values.capital("en") for _ in range(rng.choice((0, 1, 1, 2))))]  # fmt: skip
    return ". ".join(parts)


def _published(rng: Random, values: Values, date: str) -> tuple[str, dict[str, str | None]]:
    """A clause and what it says: a date, mostly a body, mostly a place."""
    by, place, drawn = values.organisation(), values.place(), rng.random()
    if drawn < UNSAID:
        return rng.choice(BARE_CLAUSES).format(d=date), {"by": None, "at": None, "when": date}
    if drawn < 2 * UNSAID:
        by = by.replace(",", "")
        clause = f"{rng.choice(BARE_CLAUSES)} by {by}".format(d=date)
        return clause, {"by": by, "at": None, "when": date}
    clause = rng.choice(CLAUSES).format(d=date, o=by, p=place)
    return clause, {"by": by, "at": place, "when": date}


def _listed(rng: Random, topics: list[str]) -> str:
    said = rng.choice(LISTS).format(l=", ".join(topics)) + rng.choice((".", ""))
    return said if topics else ""


def _valued(topics: list[str]) -> list[dict[str, str]]:
    return [{"value": topic} for topic in topics]


def _topics(rng: Random, values: Values) -> list[str]:
    """One to nine; some share their beginning, middle or end with one before, so that copying must keep its place."""
    topics = [values.heading()]
    while len(topics) < 9 and rng.random() < 0.78:
        old = rng.choice(topics)
        head, _, rest = old.partition("--")
        parts = [part for topic in topics for part in topic.split("--")]
        new = (values.heading(), f"{old}--{values.capital('en')}", f"{head}--{values.heading()}", rest or head,
               "--".join(rng.choices([*parts, values.capital("en")], k=rng.randint(2, 3))))  # fmt: skip
        topics.append(rng.choices(new, (6, 1, 1, 1, 3))[0])
    return list(dict.fromkeys(topics))


def _date(rng: Random, values: Values) -> str:
    return values.date().rstrip("-") + ("-" if rng.random() < OPEN else "")


def _dated(shelf: Shelf, date: str) -> dict[str, str]:
    key, when_open, when_closed = shelf.dated
    return {key: when_open if date.endswith("-") else when_closed}
