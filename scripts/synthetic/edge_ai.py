"""Sentences that a cataloguer gives to edge-ai, and the FOLIO instance that each means.

    [Catalog ]TITLE[ by NAME][ edited by NAME][, published in YEAR by PUBLISHER in PLACE]

Rules, so that every sentence has one right record:
- The title ends before the first ` by `, ` (`, ` published`, ` edited`, ` translated`, ` illustrated`, and holds none of them.
- `by` gives authors; `edited by`, `translated by`, `illustrated by` say their role. A body is a corporate name, all else personal.
- What is not said has no key: no contributors, no publication.
- The type is text unless the sentence begins with `the map`, `the score`, `the sound recording` or `the video`.
- The stop that ends a sentence belongs to nothing in it.
Records hold names where ids will be (corral.datasets.edge_ai).
"""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from .folio import PLACES, PUBLISHERS
from .lexicon import Lexicon
from .values import Values

ENDS = (" by ", " (", " published", " edited", " translated", " illustrated", ", ")
LEADS = ("", "", "", "", "Please catalog ", "Catalog ", "Catalogue ", "Please catalogue ", "A record for ", "Create a record for ", "For ")  # fmt: skip
TYPES = {"the map ": "cartographic image", "the score ": "notated music",
         "the sound recording ": "performed music", "the video ": "two-dimensional moving image"}  # fmt: skip
STARTS = tuple(lead for lead in LEADS if lead) + tuple(kind.capitalize() for kind in TYPES)
DECORATED = ("{t} {n}", "{n} {t}", "{w}'s {t}", "{t}!", "{t}?", "{t} & {w}", "{t}-{w}")
ROLES = {"edited by": "Editor", "translated by": "Translator", "illustrated by": "Illustrator"}
BODIES = ("University of {p}", "{w} Institute", "{w} Society", "Museum of {w}", "{w} Association", "{p} Council")  # fmt: skip
PUBLICATIONS = (
    "published in {y} by {b} in {p}", "published in {y} by {b} in {p}", "published in {y} in {p} by {b}",
    "published by {b} in {p} in {y}", "published by {b}, {p}, {y}", "published in {p} by {b}", "published in {y} by {b}",
    "published by {b}", "published in {y}",
)  # fmt: skip
# The prompt's own words differ from release to release of edge-ai, so they do here from row to row.
PROMPT = (
    ("You catalogue for a library.", "You are an expert cataloger.", "You are a careful library cataloguer.", "As an expert cataloger, you describe material."),
    (" Please be accurate and do not add fields that were not asked for.", " Be as accurate as possible; never\n    make up any extra fields when cataloging material.", "", " Take only what is said."),
    ("\n\nGiven a sentence, construct a FOLIO Inventory Instance record.\n", "\nMake a FOLIO Instance record of the sentence.\n", "\n\nFrom a sentence, make a FOLIO Inventory Instance record.\n"),
    ("Use the `retrieve_reference_data` function to find the id for contributorTypeId,\n    contributorNameTypeId, and instanceTypeId from the values in those fields.", "The ids for instanceTypeId, contributorNameTypeId and contributorTypeId come\n    from the `retrieve_reference_data` function.", "Look up instanceTypeId, contributorNameTypeId and contributorTypeId with `retrieve_reference_data`."),
    ("\n\n\n\n    Here are some examples:\n    ", "\n\nExamples:\n", "\n\n    An example:\n    ", "\n\nHere is an example:\n"),
)  # fmt: skip
ASKED = ("Question: {q}\n\nAnswer: {a}", "Question: {q}\nAnswer: {a}", "Q: {q}\nA: {a}")


@dataclass(frozen=True)
class Shares:
    """How often a sentence says a type, names a body, gives somebody a role."""

    kind: float = 0.1
    body: float = 0.12
    role: float = 0.2


USUAL, RARE = Shares(), Shares(kind=0.5, body=0.4, role=0.6)


@dataclass(frozen=True)
class Case:
    """One sentence, and its record with names where ids will be."""

    sentence: str
    record: dict[str, Any]


class EdgeAi:
    """Draws cases and system prompts from one random stream."""

    def __init__(self, rng: Random, lexicon: Lexicon, shares: Shares = USUAL) -> None:
        self.rng, self.shares = rng, shares
        self.values = Values(rng, lexicon)

    def draw(self) -> Case:
        rng, v = self.rng, self.values
        kind = rng.choice(list(TYPES)) if rng.random() < self.shares.kind else ""
        title = self.title()
        names, contributors = self.contributors()
        published, publication = self.publication()
        lead = rng.choice(LEADS)
        sentence = lead + kind + title + names + published
        sentence = sentence if lead else v.sentence_case(sentence)
        record: dict[str, Any] = {
            "title": title, "source": "AIModel", "instanceTypeId": TYPES.get(kind, "text"),
        }  # fmt: skip
        record |= {"contributors": contributors} if contributors else {}
        record |= {"publication": publication} if publication else {}
        return Case(sentence + rng.choice(("", "", ".")), record)

    def title(self) -> str:
        """A title that ends where the rules say."""
        rng, v = self.rng, self.values
        while True:
            words = v.phrase(1, rng.choice((2, 4, 7)), rng.choice(("en", "en", "en", None)))
            text = words.title() if rng.random() < 0.4 else v.sentence_case(words)
            if rng.random() < 0.25:
                text += ": " + v.phrase(1, 5, "en")
            if rng.random() < 0.2:
                text = rng.choice(DECORATED).format(t=text, w=v.capital("en"), n=v.number())
            told = any(end in f"{text.lower()} " for end in ENDS)
            if not told and not text.startswith(STARTS):
                return text

    def contributors(self) -> tuple[str, list[dict[str, str]]]:
        """What the sentence says of those who made it, and the record's list."""
        rng, said, found = self.rng, "", list[dict[str, str]]()
        if rng.random() < 0.85:
            names = [self.name() for _ in range(rng.choice((1, 1, 1, 2)))]
            said += " by " + " and ".join(name for name, _ in names)
            found += [_contributor(name, kind, "Author") for name, kind in names]
        if rng.random() < self.shares.role:
            role = rng.choice(list(ROLES))
            name, kind = self.name()
            said += rng.choice((", ", " ")) + f"{role} {name}"
            found.append(_contributor(name, kind, ROLES[role]))
        return said, found

    def name(self) -> tuple[str, str]:
        rng, v = self.rng, self.values
        if rng.random() < self.shares.body:
            body = rng.choice(BODIES).format(p=v.town(), w=v.capital("en"))
            return body, "Corporate name"
        first, last = rng.choice(v.lexicon.first_names), rng.choice(v.lexicon.last_names)
        initial = rng.choice("ABCDEFGHJKLMNPRSTVW") + "."
        second = rng.choice("ABCDEFGHJKLMNPRSTVW") + "."
        forms = (f"{first} {last}",) * 4 + (
            f"{first} {initial} {last}", f"{initial} {last}", f"{initial} {second} {last}", f"{initial}{second} {last}",
            f"{first} {last} {rng.choice(v.lexicon.last_names)}",
        )  # fmt: skip
        return rng.choice(forms), "Personal name"

    def publication(self) -> tuple[str, list[dict[str, str]]]:
        """The clause that ends the sentence, and the record's list; its keys in the order of FOLIO's example."""
        rng = self.rng
        if rng.random() < 0.25:
            return "", []
        form = rng.choice(PUBLICATIONS)
        found = {"publisher": self.publisher(), "dateOfPublication": str(rng.randint(1850, 2026)), "place": self.place()}  # fmt: skip
        marks = {"publisher": "{b}", "dateOfPublication": "{y}", "place": "{p}"}
        said = form.format(b=found["publisher"], y=found["dateOfPublication"], p=found["place"])
        kept = {key: value for key, value in found.items() if marks[key] in form}
        return rng.choice((", ", ", ", " ")) + said, [kept]

    def publisher(self) -> str:
        while True:
            choice = self.rng.choice((self.rng.choice(PUBLISHERS), self.values.organisation()))
            if not any(mark in f" {choice} " for mark in (" in ", " by ", ", ", "[")):
                return choice.rstrip(".")

    def place(self) -> str:
        while True:
            place = self.rng.choice((self.rng.choice(PLACES), self.values.town()))
            if not any(mark in f" {place} " for mark in (" in ", " by ", ", ", "[")):
                return place

    def prompt(self) -> str:
        """A system prompt of the kind that edge-ai sends: what to do, then an example."""
        example = self.draw()
        answer = json.dumps(example.record, ensure_ascii=False)
        if self.rng.random() < 0.5:
            answer = answer.replace(', "contributors"', ',         "contributors"').replace(', "publication"', ',         "publication"')  # fmt: skip
        asked = self.rng.choice(ASKED).format(q=example.sentence, a=answer)
        return "".join(self.rng.choice(part) for part in PROMPT) + asked + self.rng.choice(("", ' }}"""', "\n"))  # fmt: skip


def _contributor(name: str, kind: str, role: str) -> dict[str, str]:
    return {"name": name, "contributorNameTypeId": kind, "contributorTypeId": role}
