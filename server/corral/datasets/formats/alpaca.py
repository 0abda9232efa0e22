"""Alpaca rows as LLaMA-Factory documents them."""

from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_optional_text, read_text
from corral.datasets.rows import Message, Row


class Alpaca(Format):
    """`{"instruction", "input", "output", "system", "history"}`."""

    name = "alpaca"
    title = "Alpaca"
    rules = (
        '{"instruction":"…", "input"?:"…", "output":"…", "system"?:"…", "history"?:[["q","a"] …]}',
        "the question is instruction, then input on the next line; only one of them is needed",
        'preferences have "chosen" and "rejected" texts in place of output',
        "a JSON array or JSONL",
    )
    keys = frozenset(("instruction", "input", "output", "system", "history", "chosen", "rejected"))

    def score(self, value: dict[str, Any]) -> int:
        return 9 if "instruction" in value and ("output" in value or "chosen" in value) else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        question = read_text(value, "instruction", place)
        details = read_optional_text(value, "input", place)
        if details:
            place.note("input", "joined_input", "instruction and input became one user turn")
            question = f"{question}\n{details}"
        system = read_optional_text(value, "system", place)
        turns = ([Message("system", system)] if system else []) + self._history(
            value.get("history"), place
        )
        turns.append(Message("user", question))
        extra = self.extra_of(value)
        if "chosen" in value:
            sides = [
                Message("assistant", read_text(value, key, place)) for key in ("chosen", "rejected")
            ]
            row = Row(
                "preference",
                messages=tuple(turns),
                chosen=(sides[0],),
                rejected=(sides[1],),
                extra=extra,
            )
        else:
            answer = Message("assistant", read_text(value, "output", place))
            row = Row("chat", messages=(*turns, answer), extra=extra)
        return None if place.bad else row

    def _history(self, items: Any, place: Place) -> list[Message]:
        if items is None:
            return []
        turns: list[Message] = []
        for number, pair in enumerate(items if isinstance(items, list) else [items]):
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or not all(isinstance(text, str) for text in pair)
            ):
                place.error(
                    f"history[{number}]",
                    "wrong_type",
                    f'found {shown(pair)}; must be ["question","answer"]',
                )
                continue
            turns += [Message("user", pair[0]), Message("assistant", pair[1])]
        return turns

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        if row.kind == "preference":
            return self._write_preference(row, place)
        simple = adapt.as_pairs(row, place, self.name)
        if simple is None:
            return None
        question, answer = simple.pairs[-1]
        value: dict[str, Any] = {"instruction": question, "input": "", "output": answer}
        return self._finish(value, simple, simple.pairs[:-1], row, place)

    def _write_preference(self, row: Row, place: Place) -> dict[str, Any] | None:
        if len(row.chosen) != 1 or len(row.rejected) != 1:
            place.loss(
                "chosen", "many_turns", f"{self.name} holds one text on each side; row left out"
            )
            return None
        simple = adapt.as_pairs(Row("chat", messages=row.messages + row.chosen), place, self.name)
        if simple is None or not adapt.only_text(row.rejected, place, self.name):
            return None
        adapt.lose_weights(row.rejected, place, self.name)
        adapt.lose_names(row.rejected, place, self.name)
        question, chosen = simple.pairs[-1]
        rejected = adapt.flat(row.rejected[0].content, place, "rejected")
        value: dict[str, Any] = {
            "instruction": question,
            "input": "",
            "chosen": chosen,
            "rejected": rejected,
        }
        return self._finish(value, simple, simple.pairs[:-1], row, place)

    def _finish(
        self,
        value: dict[str, Any],
        simple: adapt.Simple,
        history: list[tuple[str, str]],
        row: Row,
        place: Place,
    ) -> dict[str, Any]:
        if simple.system:
            value["system"] = simple.system
        if history:
            value["history"] = [list(pair) for pair in history]
        self.lose_tools(row, place)
        return self.with_extra(value, row, place)
