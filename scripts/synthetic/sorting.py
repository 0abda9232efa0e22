"""Short answers that a small sign decides: the first or last words of a title, an open date, a name given or not.

In a long record the deciding token is one of eighty and its loss drowns (docs/log.md); here it is most of the answer. A register is a
fixed sorter: its signs and values never change, so that the weights hold them. Other rules are made up on the spot and said in the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .lexicon import Lexicon
from .values import Values

REGISTERS = 48
# The share of titles that carry a sign of a given rule; the others have the usual value.
SIGNED = 0.6
KINDS = ("opener", "closer", "open", "named")
CLAUSES = (
    "Made in {d} by {o}, {p}", "Made in {d} by {o}", "{o}, {p}, {d}", "Dated {d}", "Since {d} with {o}, {p}", "Out in {d} by {o}, {p}",
    "From {d}, {o}", "{d} by {o}, {p}",
)  # fmt: skip
LISTS = ("Topics are {l}", "About {l}", "Topics: {l}", "Lists {l}.")


@dataclass(frozen=True)
class Rule:
    """`key` gets the value of the sign that the text shows, or the usual one. `open` and `named` have one sign and no words for it."""

    key: str
    kind: str
    options: tuple[tuple[str, str], ...]
    usual: str

    def said(self) -> str:
        """The rule in words, for a prompt."""
        shown = {"opener": "if it begins {}", "closer": "if it ends {}",
                 "open": "if the date is open", "named": "if a name is given"}[self.kind]  # fmt: skip
        cases = [f"{value} {shown.format(sign)}" for sign, value in self.options]
        return f"{self.key}: {', '.join(cases)}, else {self.usual}"


@dataclass(frozen=True)
class Sorted:
    """A text, its title and date, and the values that the rules give it."""

    text: str
    title: str
    date: str
    values: dict[str, str]


def make_rules(rng: Random, values: Values) -> tuple[Rule, ...]:
    """One to three rules of different kinds."""
    kinds = rng.sample(KINDS, rng.choice((1, 2, 2, 3)))
    return tuple(_rule(rng, values, kind) for kind in kinds)


def _rule(rng: Random, values: Values, kind: str) -> Rule:
    forms = {"opener": rng.choice(("{} of", "{} for the", "The {}")), "closer": "{}"}  # fmt: skip
    count = rng.randint(1, 5) if kind in forms else 1
    words = [values.word("en").lower() for _ in range(count)]
    signs = [forms.get(kind, kind).format(word) for word in words]
    if kind == "opener":
        signs = [sign[0].upper() + sign[1:] for sign in signs]
    meant = [values.phrase(1, rng.choice((1, 1, 2)), "en").lower() for _ in range(count + 1)]
    key = rng.choice(("{}", "{}Text", "the_{}")).format(values.word("en").lower())
    return Rule(key, kind, tuple(dict(zip(signs, meant, strict=False)).items()), meant[-1])


def registers(lexicon: Lexicon) -> list[tuple[str, tuple[Rule, ...]]]:
    """Name and rules of every fixed sorter."""
    drawers = [Values(Random(f"register {n}"), lexicon) for n in range(REGISTERS)]
    return [(v.phrase(1, 2, "en"), make_rules(v.rng, v)) for v in drawers]


def show(rng: Random, values: Values, rules: Sequence[Rule]) -> Sorted:
    """A text with a sign, or none, for each rule."""
    title, decided = values.sentence_case(values.phrase(1, 7)), dict[str, str]()
    if rng.random() < 0.3:
        title = values.title(5).rstrip(".!?")
    date, named = values.date().rstrip("-"), rng.random() < 0.4
    for rule in rules:
        signed = rng.random() < SIGNED
        sign, value = rng.choice(rule.options) if signed else ("", rule.usual)
        decided[rule.key] = value
        if rule.kind == "open":
            date += "-" if signed else ""
        elif rule.kind == "named":
            named = signed
        elif signed:
            title = f"{sign} {title}" if rule.kind == "opener" else f"{title} {sign}"  # fmt: skip
    title += rng.choice(("", "", "."))
    text = f"{title} / {' and '.join(values.person() for _ in range(rng.choice((1, 1, 2))))}" if named else title  # fmt: skip
    open_rule = any(rule.kind == "open" for rule in rules)
    if open_rule or rng.random() < 0.7:
        clause = rng.choice(CLAUSES).format(d=date, o=values.organisation(), p=values.place())
        text += rng.choice((" ", " ", "; ") if text[-1] == "." else (" ", ". ", "; ")) + clause
    if rng.random() < 0.6:
        items = ", ".join(values.heading() for _ in range(rng.randint(1, 5)))
        text += " " + rng.choice(LISTS).format(l=items)
    return Sorted(rng.choice(("", "For ", "Entry: ")) + text, title, date, {rule.key: decided[rule.key] for rule in rules})  # fmt: skip
