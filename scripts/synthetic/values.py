"""Random values of many kinds: titles, people, organisations, places, dates, identifiers, lists."""

from random import Random

from .lexicon import Lexicon

MONTHS = (
    "January February March April May June July August September October November December".split()
)
ORGANISATIONS = (
    "{w} {w} Ltd.", "{w} & {w}", "{w} Institute", "Institute of {w}", "{w} Press", "University of {p}", "{p} Museum",
    "Museum of {w}", "Society for {w} {w}", "{l} and Sons", "{l} Brothers", "{l} Verlag", "Éditions {w}", "{w} GmbH",
    "{w}", "{w} {w}", "{p} Council", "Office of {w} {w}", "{w} Group, Inc.", "[{w} not identified]", "{l}, {l} & Co.",
)  # fmt: skip
JOINS = (
    ": ",
    ", ",
    " - ",
    " -- ",
    " — ",
    "; ",
    "/",
    " & ",
    " ... ",
    " = ",
    "-",
    " in ",
    " and ",
    " of ",
    " von ",
    " et ",
)
REGIONS = "Mass. N.Y. Calif. Conn. Pa. Ill. Ont. D.C. Md. N.J. UK Va. Tex.".split()
GLUE = {
    "en": "the of and in for a to on with by from".split(),
    "de": "der die das und von zur im für mit über".split(),
    "fr": "le la les de des du et en sur pour l'art".split(),
    "es": "el la los de del y en para con sobre".split(),
    "it": "il la di del e per con sulla".split(),
    "pt": "o a de do da e em para com".split(),
    "sv": "och en i för med av till".split(),
}


class Values:
    """Draws values with one random stream; the same seed gives the same values."""

    def __init__(self, rng: Random, lexicon: Lexicon) -> None:
        self.rng = rng
        self.lexicon = lexicon

    def language(self) -> str:
        return self.rng.choices(tuple(GLUE), (60, 9, 9, 9, 5, 5, 3))[0]

    def word(self, language: str | None = None) -> str:
        return self.lexicon.word(self.rng, language or self.language())

    def capital(self, language: str | None = None) -> str:
        word = self.word(language)
        return word[0].upper() + word[1:]

    def phrase(self, low: int = 1, high: int = 4, language: str | None = None) -> str:
        """Plain words with the small words of the language between them; no punctuation."""
        language = language or self.language()
        words: list[str] = []
        for _ in range(self.rng.randint(low, high)):
            if words and self.rng.random() < 0.35:
                words.append(self.rng.choice(GLUE[language]))
            words.append(self.word(language))
        return " ".join(words)

    def sentence_case(self, text: str) -> str:
        return text[0].upper() + text[1:]

    def title(self, high: int = 9) -> str:
        """A heading: one to three phrases with the punctuation that real headings carry."""
        rng, language = self.rng, self.language()
        text = self.sentence_case(self.phrase(1, high, language))
        if rng.random() < 0.15:
            text = " ".join(self.sentence_case(w) for w in text.split(" "))
        while rng.random() < 0.28 and len(text) < 160:
            text += rng.choice(JOINS) + self.phrase(1, 4, language)
        return self.decorated(text)

    def decorated(self, text: str) -> str:
        """Sometimes add brackets, quotes, a number, an abbreviation, a possessive, a final stop."""
        rng = self.rng
        if rng.random() < 0.08:
            text += f" ({''.join(rng.choice('ABCDEFGHIKLMNOPRSTUVWX') for _ in range(rng.randint(2, 5)))})"
        if rng.random() < 0.07:
            text = rng.choice(('"{}" {}', "{} '{}'", '{} "{}"', "« {} » {}", "[{}] {}")).format(
                text, self.phrase(1, 2)
            )
        if rng.random() < 0.07:
            text += rng.choice(
                (" [electronic resource]", ", {}", " {}", ", vol. {}", " no. {}", " [{}]")
            ).format(self.number())
        if rng.random() < 0.04:
            text = f"{self.capital()}'s {text}"
        if rng.random() < 0.05:
            form = (
                "“{}” {}",
                "{} – {}",
                "{}… {}",
                "‘{}’ {}",
                "¿{}? {}",
                "{} · {}",
                "{} §{}",
                "{} {}%",
                "{} ${}",
                "{} <{}>",
                "{} {}°",
            )
            text = rng.choice(form).format(text, rng.choice((self.phrase(1, 2), self.number())))
        if rng.random() < 0.18:
            text += rng.choice((".", ".", ".", "!", "?"))
        return text

    def number(self) -> int:
        return self.rng.choice(
            (self.rng.randint(0, 20), self.rng.randint(0, 999), self.rng.randint(0, 99999))
        )

    def decimal(self) -> float:
        return round(self.rng.random() * 10.0 ** self.rng.randint(1, 4), self.rng.choice((1, 2)))

    def year(self) -> str:
        return str(self.rng.randint(1700, 2029))

    def date(self) -> str:
        rng = self.rng
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), self.year()
        return rng.choice(
            (year, year, f"{year}-{month:02}-{day:02}", f"{day} {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} {year}",
             f"{day:02}.{month:02}.{year}", f"c{year}", f"©{year}", f"[{year}]", f"{year}-", f"{year}?", f"about {year}")
        )  # fmt: skip

    def last_name(self) -> str:
        name = self.rng.choice(self.lexicon.last_names)
        return self.capital() if self.rng.random() < 0.1 else name

    def person(self) -> str:
        rng = self.rng
        first, last = rng.choice(self.lexicon.first_names), self.last_name()
        initial = f"{rng.choice('ABCDEFGHJKLMNPRSTVW')}."
        if rng.random() < 0.08:
            last = f"{last}-{self.last_name()}"
        return rng.choice(
            (f"{first} {last}", f"{first} {last}", f"{first} {initial} {last}", f"{initial} {last}", f"{last}, {first}",
             f"{last}, {first} {initial}", f"{last}, {initial}", f"Dr. {first} {last}", f"{last}, {first}, {self.year()}-",
             f"{last}, {first}, {self.year()}-{self.year()}", f"{first} {last} [and others]")
        )  # fmt: skip

    def place(self) -> str:
        """A town, now and then with the abbreviation of its region after a comma."""
        if self.rng.random() < 0.2:
            return self._new_town()
        place = self.rng.choice(self.lexicon.places)
        return f"{place}, {self.rng.choice(REGIONS)}" if self.rng.random() < 0.06 else place

    def town(self) -> str:
        return self._new_town() if self.rng.random() < 0.2 else self.rng.choice(self.lexicon.places)

    def _new_town(self) -> str:
        form = self.rng.choice(("{w}", "New {w}", "{w} am {w}", "St. {w}", "{w}burg", "{w} City"))
        return form.format(w=self.capital())

    def organisation(self) -> str:
        text = self.rng.choice(ORGANISATIONS)
        while "{" in text:
            text = (
                text.replace("{w}", self.capital(), 1)
                .replace("{p}", self.place(), 1)
                .replace("{l}", self.last_name(), 1)
            )
        return text

    def heading(self) -> str:
        """A subject-like heading; no comma, so that lists joined by commas stay readable."""
        rng = self.rng
        text = self.sentence_case(self.phrase(1, 3))
        if rng.random() < 0.3:
            text += "--" + self.sentence_case(self.phrase(1, 3))
        if rng.random() < 0.1:
            text += f" ({self.capital()})"
        return text

    def identifier(self) -> str:
        rng = self.rng
        alphabet = rng.choice(
            ("0123456789", "0123456789abcdef", "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")
        )
        parts = [
            "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 6)))
            for _ in range(rng.randint(1, 4))
        ]
        return rng.choice(("-", "", ".", "/", "_")).join(parts)

    def uuid(self) -> str:
        return "-".join(
            "".join(self.rng.choice("0123456789abcdef") for _ in range(n)) for n in (8, 4, 4, 4, 12)
        )

    def url(self) -> str:
        word = self.word("en").lower()
        return self.rng.choice(
            (f"https://{word}.org/{self.identifier()}", f"{word}@example.org", f"www.{word}.net")
        )

    def sentence(self) -> str:
        return self.sentence_case(self.phrase(4, 12)) + self.rng.choice((".", ".", ".", "!", "?"))
