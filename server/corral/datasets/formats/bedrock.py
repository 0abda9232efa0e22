"""Anthropic's Claude on Amazon Bedrock: fine-tuning rows."""

from typing import Any

from corral.datasets.findings import Place
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_optional_text
from corral.datasets.formats.turns import read_turns
from corral.datasets.rows import Message, Row


class Bedrock(Format):
    """`{"system": text, "messages": [user, assistant …]}`, nothing else."""

    name = "bedrock"
    title = "Anthropic on Bedrock"
    rules = (
        '{"system"?:"…", "messages":[{"role":"user","content":"…"},{"role":"assistant",…} …]}',
        "at least two messages, user first, assistant last, strictly by turns, text only",
        "no other keys, no tools, no weights",
    )
    keys = frozenset(("system", "messages"))
    holds_extra = False

    def score(self, value: dict[str, Any]) -> int:
        fits = isinstance(value.get("system"), str) and isinstance(value.get("messages"), list)
        return 8 if fits and value.keys() == self.keys else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        system = read_optional_text(value, "system", place)
        turns = read_turns(value.get("messages"), place)
        roles = [turn.role for turn in turns]
        if turns and roles != ["user", "assistant"] * (len(turns) // 2):
            found = ", ".join(roles[:6])
            place.error(
                "messages", "turn_order", f"found {found}; must be user and assistant by turns"
            )
        if place.bad:
            return None
        messages = ((Message("system", system),) if system else ()) + turns
        return Row("chat", messages=messages, extra=self.extra_of(value))

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        simple = adapt.as_pairs(row, place, self.name)
        if simple is None:
            return None
        self.lose_tools(row, place)
        turns = []
        for question, answer in simple.pairs:
            turns.append({"role": "user", "content": question})
            turns.append({"role": "assistant", "content": answer})
        value: dict[str, Any] = {"system": simple.system} if simple.system else {}
        return self.with_extra({**value, "messages": turns}, row, place)
