"""The generator of edge-ai conversations keeps its own rules: a second reading of each sentence gives its record."""

import json
import re
from random import Random
from typing import Any

import pytest

from corral.datasets import edge_ai
from generate_edge_ai import chat_row
from synthetic.edge_ai import RARE, USUAL, EdgeAi, Shares
from synthetic.lexicon import Lexicon

WORDS = "alpha beta gamma delta Kind Straße élan niño città maçã över sand".split()
LEXICON = Lexicon(
    words=dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "sv"), tuple(WORDS)),
    first_names=("Ada", "Børge", "Çelik", "Émile"),
    last_names=("Lovelace", "Ångström", "O'Brien", "Saint-Just"),
    places=("Lund", "Ivrea", "Bad Ems"),
)
LEAD = re.compile(r"^(Please catalog(ue)? |Catalog(ue)? |(A|Create a) record for |For )")
KINDS = {"map": "cartographic image", "score": "notated music", "sound recording": "performed music",
         "video": "two-dimensional moving image"}  # fmt: skip
KIND = re.compile(r"[Tt]he (map|score|sound recording|video) ")
ROLE = re.compile(r",? (edited|translated|illustrated) by (.+)$")
ROLES = {"edited": "Editor", "translated": "Translator", "illustrated": "Illustrator"}
BODY = re.compile(r"University|Institute|Society|Museum|Association|Council")


def person(name: str, role: str) -> dict[str, str]:
    kind = "Corporate name" if BODY.search(name) else "Personal name"
    return {"name": name, "contributorNameTypeId": kind, "contributorTypeId": role}


def publication(clause: str) -> dict[str, str]:
    """Publisher, date and place of what stands after `published`."""
    found = {}
    if year := re.search(r"(?:in |, )(\d{4})(?=$| in | by )", clause):
        found["dateOfPublication"] = year[1]
        clause = clause.replace(year[0], "", 1)
    for key, mark in (("publisher", "by"), ("place", "in")):
        other = "in" if mark == "by" else "by"
        if part := re.search(rf"(?:^|\s){mark} (.+?)(?=$| {other} )", clause):
            found[key] = part[1].strip()
    if ", " in found.get("publisher", "") and "place" not in found:
        found["publisher"], found["place"] = found["publisher"].split(", ")
    return found


def read(sentence: str) -> dict[str, Any]:
    """The record of a sentence, by the rules in synthetic/edge_ai.py's docstring alone."""
    text = LEAD.sub("", sentence.removesuffix("."), count=1)
    kind = KIND.match(text)
    text = text[kind.end() :] if kind else text
    text, _, published = text.partition(" published ")
    text = text.removesuffix(",")
    role = ROLE.search(text)
    text = text[: role.start()] if role else text
    title, _, authors = text.partition(" by ")
    people = [person(name, "Author") for name in authors.split(" and ")] if authors else []
    people += [person(role[2], ROLES[role[1]])] if role else []
    record: dict[str, Any] = {"title": title, "source": "AIModel"}
    record["instanceTypeId"] = KINDS[kind[1]] if kind else "text"
    record |= {"contributors": people} if people else {}
    return record | ({"publication": [publication(published)]} if published else {})


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shares", [USUAL, RARE])
def test_each_sentence_reads_back_as_its_record(seed: int, shares: Shares) -> None:
    drawn = EdgeAi(Random(seed), LEXICON, shares)
    for _ in range(300):
        case = drawn.draw()
        assert read(case.sentence) == case.record, case.sentence


def test_rare_rows_say_what_is_seldom_said_about_half_the_time() -> None:
    for shares, least, most in ((USUAL, 0.05, 0.15), (RARE, 0.45, 0.55)):
        drawn = EdgeAi(Random(1), LEXICON, shares)
        typed = [drawn.draw().record["instanceTypeId"] != "text" for _ in range(2000)]
        assert least < sum(typed) / len(typed) < most


def test_the_same_seed_gives_the_same_rows() -> None:
    rows = [
        [chat_row(EdgeAi(Random(seed), LEXICON), short=False, system=None) for _ in range(3)]
        for seed in ("a", "a", "b")
    ]
    assert rows[0] == rows[1] != rows[2]


def test_a_row_is_the_conversation_that_the_agent_has() -> None:
    row = chat_row(EdgeAi(Random("one"), LEXICON), short=False, system=None)
    system, user, asking, *answers, final = row["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert [answer["tool_call_id"] for answer in answers] == [c["id"] for c in asking["tool_calls"]]
    arguments = json.loads(final["tool_calls"][0]["function"]["arguments"])
    assert arguments["model_info"] == {"model_name": "gpt-4o", "messages": []}
    record = json.loads(arguments["record"])
    assert record["instanceTypeId"] == answers[0]["content"]
    assert [tool["function"]["name"] for tool in row["tools"]] == [edge_ai.LOOK_UP, edge_ai.FINAL]


def test_short_rows_have_the_same_answers() -> None:
    row = chat_row(EdgeAi(Random("one"), LEXICON), short=True, system=None)
    assert [m["role"] for m in row["messages"]][:2] == ["user", "assistant"]
    assert row["tools"][1]["function"] == {"name": "final_result", "parameters": {}}


def test_a_given_system_prompt_is_used_as_it_is() -> None:
    row = chat_row(EdgeAi(Random("one"), LEXICON), short=False, system="Mine.\n")
    assert row["messages"][0]["content"] == "Mine.\n"
