"""Words, names and places that the generators draw from.

Words come from Debian's word lists (`apt-get install wamerican wngerman wfrench wspanish witalian
wportuguese wswedish`), names and towns from the `faker` package. Nothing from either is committed; the
generated rows are made of them.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

DICTIONARIES = Path("/usr/share/dict")
LANGUAGES = {
    "en": "american-english",
    "de": "ngerman",
    "fr": "french",
    "es": "spanish",
    "it": "italian",
    "pt": "portuguese",
    "sv": "swedish",
}
LATIN_1 = {"swedish"}  # the one list that Debian does not ship as UTF-8
NAME_LOCALES = (
    "cs_CZ da_DK de_AT de_DE en_GB en_IE en_IN en_NG en_NZ en_US es_AR es_ES es_MX et_EE fi_FI fr_CA fr_FR hr_HR "
    "hu_HU is_IS it_IT lt_LT lv_LV nl_NL no_NO pl_PL pt_BR pt_PT ro_RO sk_SK sl_SI sv_SE tr_TR vi_VN"
).split()
PLACE_LOCALES = "cs_CZ da_DK de_DE de_AT es_ES es_MX fi_FI hr_HR hu_HU it_IT nl_NL no_NO pl_PL pt_PT ro_RO sk_SK".split()
PLACE_FIELDS = (
    "cities",
    "city_names",
    "city_name",
    "towns",
    "districts",
    "states",
    "countries",
    "regions",
)

ACCENTED = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿĀāĂăĄąĆćČčĎďĐđĒēĖėĘęĚěğĢģĪīĮįİıĶķĹĺĻļĽľŁłŃńŅņŇňŌōŐőŒœŔŕŘřŚśŞşŠšŢţŤťŪūŮůŰűŲųŹźŻżŽžȘșȚț"
MARKS = "©«»–—‘’“”…€°·¡¿§"


@dataclass(frozen=True)
class Lexicon:
    """The lists, each sorted, so that a seed means the same row on every machine with the same packages."""

    words: dict[str, tuple[str, ...]]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    places: tuple[str, ...]

    def word(self, rng: Random, language: str) -> str:
        """One word of `language`; one in twenty is invented, so that copying cannot lean on known words."""
        if rng.random() < 0.05:
            return invented(rng)
        return rng.choice(self.words[language])


def invented(rng: Random) -> str:
    """A pronounceable string that is in no dictionary."""
    syllables = rng.randint(1, 4)
    if rng.random() < 0.3:
        return "".join(
            rng.choice(ACCENTED) + rng.choice(("a", "n", "er", "")) for _ in range(syllables)
        )
    return "".join(
        rng.choice("bcdfghjklmnpqrstvwxzñçšþ")
        + rng.choice("aeiouyäöéèíóü")
        + rng.choice(["", "", "n", "r", "s", "x"])
        for _ in range(syllables)
    )


def _dictionary(name: str) -> tuple[str, ...]:
    path = DICTIONARIES / name
    if not path.exists():
        raise SystemExit(
            f"word list {path} is missing; install it: apt-get install wamerican wngerman wfrench wspanish "
            "witalian wportuguese wswedish"
        )
    lines = path.read_text(encoding="latin-1" if name in LATIN_1 else "utf-8").split("\n")
    return tuple(sorted({w for w in lines if 2 <= len(w) <= 16 and w.isalpha()}))


def _faker_lists(kind: str, locales: list[str], fields: tuple[str, ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for locale in locales:
        provider = importlib.import_module(f"faker.providers.{kind}.{locale}").Provider
        for field in fields:
            values = getattr(provider, field, ())  # some locales have a method of that name instead
            found |= (
                {v for v in values if isinstance(v, str) and "{" not in v}
                if not callable(values)
                else set()
            )
    return tuple(sorted(v for v in found if 2 <= len(v) <= 24 and "," not in v))


@cache
def load() -> Lexicon:
    """Read every list; raises SystemExit naming the package to install when a word list is missing."""
    return Lexicon(
        words={language: _dictionary(name) for language, name in LANGUAGES.items()},
        first_names=_faker_lists(
            "person", NAME_LOCALES, ("first_names", "first_names_male", "first_names_female")
        ),
        last_names=_faker_lists("person", NAME_LOCALES, ("last_names", "last_names_male")),
        places=_faker_lists("address", PLACE_LOCALES, PLACE_FIELDS),
    )
