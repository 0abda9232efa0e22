"""The sorting rows of pretraining: every value follows from a sign in the text, and from nothing else."""

import json
from random import Random

import pytest

from synthetic.lexicon import Lexicon
from synthetic.sorting import KINDS, REGISTERS, Rule, Sorted, make_rules, registers, show
from synthetic.tasks import Tasks
from synthetic.values import Values

LEXICON = Lexicon(
    words=dict.fromkeys(
        ("en", "de", "fr", "es", "it", "pt", "sv"),
        tuple("alpha beta gamma delta kind stone river field glass chair sand moss fern".split()),
    ),
    first_names=("Ada", "Émile"),
    last_names=("Lovelace", "Ångström"),
    places=("Lund", "Ivrea"),
)


def by_the_text(rule: Rule, shown: Sorted) -> set[str]:
    """The values that the text allows for `rule`, read as a person would."""
    (_, value), behind = rule.options[0], shown.text.split(shown.title, 1)[1]
    if rule.kind == "open":
        return {value if shown.date.endswith("-") and shown.date in behind else rule.usual}
    if rule.kind == "named":
        return {value if behind.startswith(" / ") else rule.usual}
    seen = {value for sign, value in rule.options if sign in shown.title}
    return seen or {rule.usual}


@pytest.mark.parametrize("seed", range(60))
def test_a_value_follows_from_its_sign(seed: int) -> None:
    rng = Random(seed)
    values = Values(rng, LEXICON)
    rules = make_rules(rng, values)
    for _ in range(20):
        shown = show(rng, values, rules)
        assert set(shown.values) == {rule.key for rule in rules}
        if len(shown.values) < len(rules):
            continue  # two rules drew one key, and the later one counts
        for rule in rules:
            if rule.kind in ("open", "named") or rule.usual != shown.values[rule.key]:
                assert shown.values[rule.key] in by_the_text(rule, shown)


def test_registers_are_always_the_same_and_cover_every_kind_of_rule() -> None:
    assert registers(LEXICON) == registers(LEXICON)
    assert len(registers(LEXICON)) == REGISTERS
    assert {rule.kind for _, rules in registers(LEXICON) for rule in rules} == set(KINDS)


def test_a_sorting_row_answers_with_the_values_alone_or_behind_the_title() -> None:
    tasks = Tasks(Random("rows"), LEXICON)
    for _ in range(200):
        record = json.loads(tasks.sort().messages[-1]["content"])
        assert len(set(record) - {"title"}) in (1, 2, 3)
