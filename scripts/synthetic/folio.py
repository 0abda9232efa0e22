"""FOLIO inventory records and the sentences that ask for them: the task of the first user.

A row is one user sentence and the record that it means:

    For TITLE[ / NAME and NAME] Published in DATE by PUBLISHER, PLACE Subjects are A, B, C.

Rules, so that every sentence has one right record:
- The title is all that stands between `For ` and ` / ` or ` Published`, its own full stop included; `/Name` without the
  spaces belongs to it, as do editors named in it.
- Names after ` / ` are joined by ` and `; a full stop that ends them is dropped unless it ends an initial or an abbreviation.
- The last comma before ` Subjects` parts publisher from place, except before the abbreviations of REGIONS.
- What is not said is null, a list without members is []; no publication sentence at all means `"publication": []`.
- An open date (`1946-`) makes a serial; `[score]`, `[sound recording]`, `[map]`, `[videorecording]` in the title name the type.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from .lexicon import Lexicon
from .values import Values

SYSTEM = "As an expert cataloger, you will create the FOLIO inventory JSON record."
REGIONS = ("D.C.", "Mass.", "N.Y.", "N.J.", "Calif.", "Conn.", "Pa.", "Md.", "Ill.", "Ont.", "UK")
REGIONAL = (
    "Washington",
    "Cambridge",
    "Ithaca",
    "Princeton",
    "Stanford",
    "New Haven",
    "Philadelphia",
    "Baltimore",
    "Urbana",
    "Toronto",
    "Oxford",
)
PLACES = (
    "New York", "London", "Washington", "Berlin", "Paris", "Cham", "Cambridge", "Oxford", "Boston", "Chicago", "Leipzig",
    "München", "Wien", "Zürich", "Amsterdam", "Leiden", "Madrid", "Barcelona", "México", "Buenos Aires", "Roma", "Milano",
    "Stuttgart", "Frankfurt am Main", "Göttingen", "Tübingen", "Genève", "Bruxelles", "Lisboa", "São Paulo", "København",
    "Stockholm", "Oslo", "Helsinki", "Praha", "Warszawa", "Kraków", "Budapest", "Moskva", "Tokyo", "Beijing", "New Delhi",
    "Dordrecht", "Singapore", "Hoboken", "Thousand Oaks", "San Francisco", "Los Angeles", "Edinburgh", "Dublin",
    "[Place of publication not identified]", "[S.l.]", "Lanham", "Abingdon", "Basingstoke", "Santiago de Chile",
)  # fmt: skip
PUBLISHERS = (
    "Springer", "Cambridge University Press", "Oxford University Press", "Wiley", "Routledge", "Elsevier", "U.S. G.P.O.",
    "Palgrave Macmillan", "De Gruyter", "Brill", "Macmillan", "Harper & Row", "Knopf", "Penguin Books", "Suhrkamp", "C.H. Beck",
    "Presses universitaires de France", "Gallimard", "L'Harmattan", "Fondo de Cultura Económica", "Ediciones Akal", "Sage",
    "Academic Press", "MIT Press", "Dover Publications", "B. Schott's Söhne", "G. Henle", "Bärenreiter", "Mohr Siebeck",
    "[publisher not identified]", "[s.n.]", "University of California Press", "Government Printing Office", "Blackwell",
    "For sale by the Supt. of Docs.", "Four Walls Eight Windows", "ABC-CLIO", "McGraw-Hill", "Vandenhoeck & Ruprecht",
)  # fmt: skip
TOPICS = (
    "Courts", "Judges", "Electronic books", "History", "Law", "Women", "Art", "Music", "Education", "Economics", "Philosophy",
    "Science", "Medicine", "Statistics", "Chemistry", "Computer science", "Mathematics", "Political science", "World War, 1939-1945",
    "Slavery", "Indians of North America", "Railroads", "Agriculture", "Water-supply", "Biology", "Poetry", "Fiction", "Theology",
    "Public health", "Machine learning", "Climatic changes", "Symphonies", "Piano music", "Cookery", "Architecture", "Libraries",
    "Cataloging", "Banks and banking", "Taxation", "Labor unions", "Immigrants", "Elections", "Constitutional law", "Botany",
)  # fmt: skip
SUBDIVISIONS = (
    "History", "Officials and employees", "Congresses", "Periodicals", "Law and legislation", "Criticism and interpretation",
    "Bibliography", "Biography", "Handbooks, manuals, etc", "20th century", "Statistical methods", "Social aspects", "Study and teaching",
    "United States", "Great Britain", "Germany", "France", "Politics and government", "Economic conditions", "Early works to 1800",
)  # fmt: skip
JURISDICTIONS = (
    "United States",
    "Great Britain",
    "Germany",
    "France",
    "California",
    "New York (State)",
    "Mexico",
    "Canada",
    "Spain",
    "Italy",
)
CORPORATE = (
    "United States. Congress. House. Committee on {w}", "United States. Department of {w}", "Great Britain. {w} Commission",
    "{p} (City). {w} Office", "Institute of {w} & {w}", "{w} Society of {p}", "University of {p}. Library", "International {w} Association",
    "Symposium on {w}", "World {w} Organization",
)  # fmt: skip
TYPES = {
    "[score]": "notated music", "[sound recording]": "performed music", "[map]": "cartographic image",
    "[videorecording]": "two-dimensional moving image",
}  # fmt: skip
OPENERS = {
    "en": (
        "Introduction to",
        "The history of",
        "Handbook of",
        "Advances in",
        "Essays on",
        "A report on",
        "Studies in",
        "Proceedings of the",
    ),
    "de": (
        "Einführung in die",
        "Geschichte der",
        "Handbuch der",
        "Beiträge zur",
        "Untersuchungen über",
    ),
    "fr": ("Histoire de la", "Introduction à la", "Essai sur", "Études sur les", "L'art de"),
    "es": ("Historia de la", "Introducción a la", "Estudios sobre", "Manual de", "El arte de"),
}
SERIALS = (
    "Journal of {}",
    "Annual report of the {}",
    "Bulletin of {}",
    "Zeitschrift für {}",
    "Revue de {}",
    "Anuario de {}",
    "{} news",
    "The {} review",
)


@dataclass(frozen=True)
class Row:
    """One request and its record."""

    prompt: str
    record: dict[str, Any]


class Folio:
    """Draws rows from one random stream."""

    def __init__(self, rng: Random, lexicon: Lexicon) -> None:
        self.rng = rng
        self.values = Values(rng, lexicon)

    def draw(self) -> Row:
        rng = self.rng
        serial = rng.random() < 0.1
        title, kind = self.title(serial)
        names = (
            []
            if serial or rng.random() < 0.55
            else [self.name() for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
        )
        statement, publication = self.publication(serial)
        subjects = (
            []
            if rng.random() < 0.15
            else list(
                dict.fromkeys(
                    self.subject() for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5, 7, 9)))
                )
            )
        )
        prompt = f"For {title}"
        if names:
            prompt += " / " + " and ".join(names)
            prompt += "." if not names[-1].endswith((".", "]")) and rng.random() < 0.5 else ""
        prompt += statement
        if subjects:
            prompt += f" Subjects are {', '.join(subjects)}" + rng.choice((".", ".", ".", ""))
        record = {
            "title": title,
            "contributors": [{"name": name} for name in names],
            "subjects": [{"value": subject} for subject in subjects],
            "classifications": [],
            "publication": publication,
            "instanceTypeText": kind,
            "modeOfIssuanceText": "serial" if serial else "single unit",
        }
        return Row(prompt, record)

    def title(self, serial: bool) -> tuple[str, str]:
        """A title and the instance type that it shows."""
        rng, v = self.rng, self.values
        language = rng.choices(("en", "de", "fr", "es"), (70, 10, 10, 10))[0]
        if serial:
            return rng.choice(SERIALS).format(v.phrase(1, 3, language)) + rng.choice(
                ("", ".")
            ), "text"
        text = v.sentence_case(v.phrase(2, 7, language))
        if rng.random() < 0.3:
            text = f"{rng.choice(OPENERS[language])} {v.phrase(1, 5, language)}"
        text = self._extended(text, language)
        kind = "text"
        if rng.random() < 0.09:
            marker = rng.choice(list(TYPES))
            text, kind = f"{text} {marker}", TYPES[marker]
        elif rng.random() < 0.12:
            text += rng.choice((" [electronic resource]", " [microform]", " [large print]"))
        return text + rng.choice(("", ".", ".")) if text[-1] not in ".!?" else text, kind

    def _extended(self, text: str, language: str) -> str:
        """Subtitles, lists, abbreviations, quotes, responsibility written into the title."""
        rng, v = self.rng, self.values
        if rng.random() < 0.4:
            form = rng.choice(
                (
                    "{}: {}",
                    "{} : {}",
                    "{}, {}",
                    "{} -- {}",
                    "{}; {}",
                    "{} = {}",
                    "{} & {}",
                    "{} ({})",
                )
            )
            text = form.format(text, v.phrase(1, 6, language))
        if rng.random() < 0.12:
            text += (
                f" ({''.join(rng.choice('ABCDEFGHILMNOPRST') for _ in range(rng.randint(2, 5)))})"
            )
        if rng.random() < 0.08:
            text = rng.choice(('"{}" {}', "{} '{}'", '{} "{}"', "[{}] {}", "{} ({})")).format(
                text, v.phrase(1, 2, language)
            )
        if rng.random() < 0.1:
            text += rng.choice(
                (
                    f", {v.year()}-{v.year()}",
                    f", vol. {rng.randint(1, 30)}",
                    f" {rng.randint(2, 20)}",
                    f", {v.year()}",
                )
            )
        if rng.random() < 0.07:
            text += f", edited by {self.plain_name()}" + rng.choice(
                ("", f" and {self.plain_name()}")
            )
        if rng.random() < 0.12:
            text += "/" + self.plain_name() + rng.choice(("", " [and others]", ""))
        return text

    def plain_name(self) -> str:
        rng, lexicon = self.rng, self.values.lexicon
        first, last = rng.choice(lexicon.first_names), rng.choice(lexicon.last_names)
        return rng.choice(
            (f"{first} {last}", f"{first} {rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last}")
        )

    def name(self) -> str:
        """A contributor as catalogues write them: uninverted, inverted, with dates, or a corporate body."""
        rng, lexicon = self.rng, self.values.lexicon
        if rng.random() < 0.15:
            return (
                rng.choice(CORPORATE)
                .replace("{p}", self.place())
                .replace("{w}", self.values.capital("en"), 1)
                .replace("{w}", self.values.capital("en"))
            )
        first, last = rng.choice(lexicon.first_names), rng.choice(lexicon.last_names)
        initial = rng.choice("ABCDEFGHJKLMNPRSTVW")
        year = rng.randint(1700, 1990)
        return rng.choice(
            (f"{first} {last}", f"{first} {last}", f"{first} {initial}. {last}", f"{last}, {first}", f"{last}, {first} {initial}.",
             f"{last}, {first}, {year}-", f"{last}, {first}, {year}-{year + rng.randint(20, 90)}", f"{initial}. {last}", f"{first} {last} [and others]")
        )  # fmt: skip

    def subject(self) -> str:
        """A heading without a comma outside its own subdivisions, since commas join the list."""
        rng, v = self.rng, self.values
        head = rng.choice(
            (rng.choice(TOPICS), v.sentence_case(v.phrase(1, 3, "en")), rng.choice(JURISDICTIONS))
        )
        while rng.random() < 0.35 and head.count("--") < 3:
            head += "--" + rng.choice(
                (rng.choice(SUBDIVISIONS), v.sentence_case(v.phrase(1, 2, "en")))
            )
        return head.replace(",", "")

    def place(self) -> str:
        rng = self.rng
        return rng.choice(PLACES) if rng.random() < 0.55 else self.values.town()

    def date(self, serial: bool) -> str:
        year = self.rng.randint(1850, 2026)
        if serial:
            return self.rng.choice((f"{year}-", f"[{year}]-", f"c{year}-"))
        return self.rng.choice(
            (str(year),) * 8
            + (
                f"c{year}",
                f"[{year}]",
                f"[{year}?]",
                f"©{year}",
                f"{year}-{year + 4}",
                f"c{year}, {year + 1}",
            )
        )

    def publication(self, serial: bool) -> tuple[str, list[dict[str, Any]]]:
        """The sentence about publication and the list that it means."""
        rng, v = self.rng, self.values
        if rng.random() < 0.03:
            return "", []
        date = self.date(serial)
        publisher = rng.choice(PUBLISHERS) if rng.random() < 0.5 else v.organisation()
        place: str | None = self.place()
        if rng.random() < 0.08:
            k = rng.randrange(len(REGIONAL))
            place = f"{REGIONAL[k]}, {REGIONS[k]}"
        elif rng.random() < 0.07:
            place = f"{self.place()} ; {self.place()}"
        shape = rng.random()
        entry = {
            "publisher": publisher,
            "place": place,
            "dateOfPublication": date,
            "role": "Publication",
        }
        if shape < 0.06:
            return f" Published in {date}", [entry | {"publisher": None, "place": None}]
        if shape < 0.1:
            return f" Published in {date} by {publisher.replace(',', '')}", [
                entry | {"publisher": publisher.replace(",", ""), "place": None}
            ]
        return f" Published in {date} by {publisher}, {place}", [entry]
