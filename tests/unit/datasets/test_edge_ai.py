"""Catalogue records as conversations of FOLIO's edge-ai agent."""

import json
from random import Random
from typing import Any

from corral.datasets import edge_ai

RECORD: dict[str, Any] = {
    "title": 'The "Sower"',
    "instanceTypeId": "text",
    "contributors": [
        {"name": "A", "contributorNameTypeId": "Personal name", "contributorTypeId": "Author"},
        {"name": "B", "contributorNameTypeId": "Personal name", "contributorTypeId": "Editor"},
    ],
}
TABLE = {"text": "id-1", "Personal name": "id-2", "Author": "id-3", "Editor": ""}


def ids(key: str, name: str) -> str:
    assert key in edge_ai.ID_KEYS
    return TABLE[name]


def test_every_name_is_looked_up_once_in_the_order_of_the_record() -> None:
    assert edge_ai.look_ups(RECORD) == [
        ("instanceTypeId", "text"),
        ("contributorNameTypeId", "Personal name"),
        ("contributorTypeId", "Author"),
        ("contributorTypeId", "Editor"),
    ]


def test_ids_take_the_place_of_names_and_what_has_none_goes() -> None:
    assert edge_ai.with_ids(RECORD, ids) == {
        "title": 'The "Sower"',
        "instanceTypeId": "id-1",
        "contributors": [
            {"name": "A", "contributorNameTypeId": "id-2", "contributorTypeId": "id-3"},
            {"name": "B", "contributorNameTypeId": "id-2"},
        ],
    }


def test_the_record_is_json_text_in_the_last_call() -> None:
    row = edge_ai.chat_row("S", "The sentence", RECORD, ids)
    roles = [message["role"] for message in row["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "tool", "tool", "assistant"]
    call = row["messages"][-1]["tool_calls"][0]["function"]
    assert call["name"] == "final_result"
    arguments = json.loads(call["arguments"])
    assert json.loads(arguments.pop("record")) == edge_ai.with_ids(RECORD, ids)
    assert arguments == {"model_info": {"model_name": "gpt-4o", "messages": []}}
    assert [m["content"] for m in row["messages"] if m["role"] == "tool"] == ["id-1", "id-2", "id-3", ""]  # fmt: skip


def test_a_record_without_ids_is_given_at_once() -> None:
    row = edge_ai.chat_row("S", "The sentence", {"title": "T"}, ids)
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]


def test_random_ids_are_uuids_that_stay_within_a_table() -> None:
    table = edge_ai.random_ids(Random(1))
    first = table("instanceTypeId", "text")
    assert first == table("instanceTypeId", "text") == edge_ai.random_ids(Random(1))("instanceTypeId", "text")  # fmt: skip
    assert first != table("contributorTypeId", "text")
    assert len(first) == 36


def test_no_digit_of_a_random_id_is_always_the_same() -> None:
    table = edge_ai.random_ids(Random(1))
    made = [table("instanceTypeId", str(number)).replace("-", "") for number in range(200)]
    assert all(len(set(digits)) == 16 for digits in zip(*made, strict=True))
