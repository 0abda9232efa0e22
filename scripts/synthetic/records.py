"""A random record of a domain: the text that tells it, and the JSON that holds it under a random schema."""

import json
import re
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from .domains import DOMAINS, Field, made_up
from .values import Values

LISTS = {"people": "person", "headings": "heading", "words": "word", "titles": "title"}
CODES = "EUR USD GBP SEK CHF JPY eng ger fre spa ita A4 A5 XL".split()
SEGMENT = re.compile(r"\[([^\]]*)\]")
RULES = ("marker:", "open:")
INNER_KEYS = ("value", "name", "label", "text", "term", "id", "item")


@dataclass(frozen=True)
class Fact:
    """One field of one record: its value (a string, number, list or dict of parts; None when absent) and its clause."""

    field: Field
    value: Any
    clause: str


class Records:
    """Draws records; one instance per stream of random numbers."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.rng = values.rng

    def domain(self, rules: bool = False) -> tuple[Field, ...]:
        """Some fields of a known or made-up domain, with those that a rule tells only where asked."""
        rng = self.rng
        drawn = rng.choice(list(DOMAINS.values())) if rng.random() < 0.6 else made_up(rng)
        fields = [field for field in drawn if rules or not field.kind.startswith(RULES)]
        low = min(2, len(fields))
        kept = sorted(rng.sample(range(len(fields)), rng.randint(low, len(fields))))
        if all(fields[i].kind.startswith(RULES) for i in kept):
            kept = [0, *kept]  # a rule needs something to go by
        return tuple(fields[i] for i in kept)

    def scalar(self, kind: str) -> Any:
        v, rng = self.values, self.rng
        drawers: dict[str, Any] = {
            # Without a stop: behind `Onion soup. Cook: …` it would be the sentence's or the title's.
            "title": lambda: v.title().removesuffix("."), "word": v.word, "heading": v.heading, "person": v.person, "place": v.place,
            "organisation": v.organisation, "date": v.date, "integer": v.number, "decimal": v.decimal,
            "identifier": v.identifier, "url": v.url, "sentence": v.sentence, "uuid": v.uuid,
            "boolean": lambda: rng.random() < 0.5, "code": lambda: rng.choice(CODES),
        }  # fmt: skip
        return drawers[kind]()

    def fact(self, field: Field, may_miss: bool = True) -> Fact:
        """Draw the value and say it; a missing value has an empty clause."""
        rng = self.rng
        if may_miss and rng.random() < 0.12:
            return Fact(field, [] if field.kind in LISTS else None, "")
        if field.kind.startswith("group:"):
            return self._group(field)
        if field.kind in LISTS:
            items = [
                self.scalar(LISTS[field.kind]) for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6)))
            ]
            return Fact(
                field, items, rng.choice(field.cues).replace("{v}", self.join(field, items))
            )
        value = self.scalar(field.kind)
        said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        return Fact(field, value, rng.choice(field.cues).replace("{v}", said))

    def join(self, field: Field, items: list[str]) -> str:
        """Lists of people mostly by ` and `, because names may hold commas; others by the usual signs."""
        if field.kind == "people" or any("," in item for item in items):
            return self.rng.choice((" and ", " and ", "; ")).join(items)
        if len(items) > 1 and self.rng.random() < 0.25:
            return ", ".join(items[:-1]) + " and " + items[-1]
        return self.rng.choice((", ", ", ", ", ", "; ", " | ")).join(items)

    def _group(self, field: Field) -> Fact:
        """Some parts unsaid, and then null; no part holds a comma then, for it would pass for the next part."""
        rng = self.rng
        parts = dict(part.split("=") for part in field.kind.removeprefix("group:").split(","))
        value = {name: self.scalar(kind) for name, kind in parts.items()}
        cue = rng.choice(field.cues)
        unsaid = [segment for segment in SEGMENT.findall(cue) if rng.random() < 0.2]
        for segment in unsaid:
            cue = cue.replace(f"[{segment}]", "")
        clause = SEGMENT.sub(r"\1", cue)
        if unsaid:
            value = {
                k: v.replace(",", "") if f"{{{k}}}" in clause else None for k, v in value.items()
            }
        return Fact(field, value, clause.format(**value))

    def record(self, fields: tuple[Field, ...]) -> tuple[Fact, ...]:
        told = [field for field in fields if not field.kind.startswith(RULES)]
        facts = [self.fact(field, may_miss=i > 0) for i, field in enumerate(told)]
        for field in fields:
            if field.kind.startswith("marker:"):
                facts.append(self._marked(field, facts))
            elif field.kind.startswith("open:"):
                facts.append(_opened(field, facts))
        return tuple(facts)

    def _marked(self, field: Field, facts: list[Fact]) -> Fact:
        """Draw a value and put its marker after the title; without a title it is the last value, the rule."""
        pairs = [option.split("=") for option in field.kind.removeprefix("marker:").split(";")]
        options = {value: marker for marker, value in pairs}
        first, usual = facts[0], list(options)[-1]
        if first.field.kind != "title":
            return Fact(field, usual, "")
        value = self.rng.choice([*options, usual, usual, usual])
        if options[value]:
            marked = f"{first.value.rstrip('.')} {options[value]}" + self.rng.choice(("", "."))
            clause = first.clause.replace(first.value, marked)
            facts[0] = replace(first, value=marked, clause=clause)
        return Fact(field, value, "")

    def text(self, facts: tuple[Fact, ...]) -> str:
        """The clauses in one running text; the joint between them varies."""
        rng = self.rng
        clauses = [fact.clause for fact in facts if fact.clause]
        if rng.random() < 0.25 and len(clauses) > 2:
            clauses = clauses[:1] + rng.sample(clauses[1:], len(clauses) - 1)
        joint = rng.choice((" ", " ", ". ", ", ", "; ", "\n", " - "))
        text = clauses[0]
        for clause in clauses[1:]:
            gap = joint if rng.random() < 0.8 else " "
            text += (gap.rstrip(" ") if clause[0] in " ," else gap) + clause
        lead = rng.choice(("", "", "", "For ", "Record: ", "Note: ", "Entry. "))
        return lead + text + rng.choice(("", "", ".", "\n"))


def _opened(field: Field, facts: list[Fact]) -> Fact:
    """What the date of another field means: its first word where the date is open, else the second."""
    source, meanings = field.kind.removeprefix("open:").split("=")
    name, part = source.split(".")
    group = next((fact.value for fact in facts if fact.field.name == name), None) or {}
    return Fact(field, meanings.split(";")[0 if str(group.get(part)).endswith("-") else 1], "")


class Schema:
    """How a domain becomes JSON: key names, their order, list items plain or wrapped, groups nested or flat."""

    def __init__(
        self, rng: Random, fields: tuple[Field, ...], values: Values, opaque: bool = False
    ) -> None:
        style = rng.choice(("same", "same", "camel", "upper", "noun"))
        self.order = list(fields) if rng.random() < 0.6 else rng.sample(fields, len(fields))
        self.keys = {
            f.name: values.word("en") if opaque else _styled(f.name, style) for f in fields
        }
        self.inner = {
            f.name: rng.choice(INNER_KEYS) if rng.random() < 0.45 else None for f in fields
        }
        self.shape = {f.name: rng.choice(("object", "list", "flat")) for f in fields}
        self.constants: dict[str, Any] = {}
        if rng.random() < 0.3:
            self.constants[values.word("en")] = rng.choice(
                (values.word("en"), values.phrase(1, 2, "en"), None, [], True, 1)
            )
        self.constants_first = rng.random() < 0.5

    def build(self, facts: tuple[Fact, ...]) -> dict[str, Any]:
        """The record under this schema: an absent scalar or group is null, an absent list is []."""
        by_name = {fact.field.name: fact.value for fact in facts}
        body: dict[str, Any] = dict(self.constants) if self.constants_first else {}
        for field in self.order:
            body |= self._entry(field, by_name.get(field.name))
        return body if self.constants_first else body | self.constants

    def _entry(self, field: Field, value: Any) -> dict[str, Any]:
        key, inner = self.keys[field.name], self.inner[field.name]
        if field.kind in LISTS:
            return {key: [{inner: item} for item in value] if inner else value}
        if field.kind.startswith("group:") and value is not None:
            shape = self.shape[field.name]
            return value if shape == "flat" else {key: [value] if shape == "list" else value}
        return {
            key: []
            if field.kind.startswith("group:") and self.shape[field.name] == "list"
            else value
        }

    def skeleton(self) -> str:
        """The schema as a user writes it: the JSON with descriptions where values go."""
        marks: dict[str, Any] = dict(self.constants) if self.constants_first else {}
        for field in self.order:
            marks |= self._entry(field, _placeholder(field))
        return json.dumps(
            marks if self.constants_first else marks | self.constants, ensure_ascii=False
        )

    def key_list(self) -> str:
        return ", ".join([self.keys[f.name] for f in self.order])


def _placeholder(field: Field) -> Any:
    if field.kind.startswith("group:"):
        return {
            part.split("=")[0]: part.split("=")[1]
            for part in field.kind.removeprefix("group:").split(",")
        }
    if field.kind.startswith("marker:"):
        options = [o.split("=") for o in field.kind.removeprefix("marker:").split(";")]
        said = [f"{value} if {marker}" if marker else f"else {value}" for marker, value in options]
        return ", ".join(said)
    if field.kind.startswith("open:"):
        source, meanings = field.kind.removeprefix("open:").split("=")
        return f"{meanings.split(';')[0]} if the {source.split('.')[1]} is open, else {meanings.split(';')[1]}"
    return [field.name] if field.kind in LISTS else field.name


def _styled(name: str, style: str) -> str:
    return {"upper": name.capitalize(), "camel": name + "Text", "noun": "the_" + name}.get(
        style, name
    )
