"""The generator of the base model's tasks keeps its own rules."""

import json
import re
from random import Random
from typing import Any

import jsonschema_rs
import pytest

from synthetic.domains import COMMON, DOMAINS, LABELS, made_up
from synthetic.lexicon import Lexicon
from synthetic.records import RULES, Fact, Records
from synthetic.tasks import Example, Tasks
from synthetic.values import Values

WORDS = "alpha beta gamma delta Kind Straße élan niño città maçã över sand".split()
LEXICON = Lexicon(
    words=dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "sv"), tuple(WORDS)),
    first_names=("Ada", "Børge", "Çelik", "Émile"),
    last_names=("Lovelace", "Ångström", "O'Brien", "Saint-Just"),
    places=("Lund", "Ivrea", "Bad Ems"),
)
FOLIO = ("FOLIO", "cataloger", "instanceTypeText", "modeOfIssuanceText", "dateOfPublication")


def drawn(seed: str, count: int = 400) -> list[Example]:
    tasks = Tasks(Random(seed), LEXICON)
    return [tasks.draw() for _ in range(count)]


def facts_of(domain: str, count: int = 150) -> list[tuple[Fact, ...]]:
    records = Records(Values(Random(domain), LEXICON))
    return [records.record(DOMAINS[domain]) for _ in range(count)]


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_every_conversation_ends_with_an_answer(seed: str) -> None:
    for example in drawn(seed):
        if example.text:
            assert not example.messages
            continue
        last = example.messages[-1]
        assert last["role"] == "assistant"
        assert last["content"] or last.get("tool_calls")


def test_a_call_has_the_arguments_that_its_tool_asks_for() -> None:
    tasks, told = Tasks(Random("calls"), LEXICON), set[str]()
    for _ in range(400):
        example = tasks.tools()
        schemas = {
            tool["function"]["name"]: tool["function"]["parameters"] for tool in example.tools or []
        }
        for message in example.messages:
            for call in message.get("tool_calls", []):
                schema = schemas[call["function"]["name"]]
                arguments = json.loads(call["function"]["arguments"])
                assert jsonschema_rs.is_valid(schema, arguments), (schema, arguments)
                told |= {word for word in ("$ref", "anyOf") if word in json.dumps(schema)}
    assert told == {"$ref", "anyOf"}


def test_equal_seeds_give_equal_rows() -> None:
    assert drawn("a", 50) == drawn("a", 50) != drawn("b", 50)


def test_no_row_is_a_folio_record() -> None:
    for example in drawn("folio", 1000):
        text = json.dumps([example.messages, example.text])
        assert not any(word in text for word in FOLIO)


def test_every_common_word_can_be_a_label() -> None:
    rng = Random(1)
    seen = {word for _ in range(4000) for field in made_up(rng) for word in [field.name]}
    assert set(COMMON.lower().split()) <= set(LABELS)
    assert len(set(COMMON.lower().split()) - seen) < 10


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_what_a_text_leaves_unsaid_is_null(domain: str) -> None:
    groups = [
        fact
        for facts in facts_of(domain)
        for fact in facts
        if fact.field.kind.startswith("group:") and fact.value
    ]
    for fact in groups:
        for value in fact.value.values():
            assert value is None or value in fact.clause
            assert "[" not in fact.clause or "[" in str(fact.value)
    optional = any("[" in cue for fact in groups for cue in fact.field.cues)
    assert optional == any(None in fact.value.values() for fact in groups)


@pytest.mark.parametrize(
    "domain", [d for d, fields in DOMAINS.items() if any(f.kind.startswith(RULES) for f in fields)]
)
def test_rules_follow_from_the_text(domain: str) -> None:
    seen: dict[str, set[str]] = {}
    for facts in facts_of(domain):
        by_name = {fact.field.name: fact.value for fact in facts}
        for fact in (fact for fact in facts if fact.field.kind.startswith(RULES)):
            assert fact.value == expected(fact, facts[0].value, by_name)
            assert not fact.clause
            seen.setdefault(fact.field.name, set()).add(fact.value)
    assert all(len(values) > 1 for values in seen.values())


def expected(fact: Fact, title: str, by_name: dict[str, Any]) -> str:
    """The value of a rule, read from the field's own description."""
    kind, _, rule = fact.field.kind.partition(":")
    if kind == "marker":
        options = dict(option.split("=") for option in rule.split(";"))
        found = re.search(r"(\[[a-z ]+\])\.?$", title)
        return options.get(found[1] if found else "", options[""])
    (name, part), values = rule.split("=")[0].split("."), rule.split("=")[1].split(";")
    return values[0 if str((by_name[name] or {}).get(part)).endswith("-") else 1]
