"""Judging answers: each figure against cases worked out by hand."""

import json
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest

from corral.errors import BadRequest, InvalidData, InvalidModel
from evaluate import report
from evaluation.page import curve_svg, page
from evaluation.rows import read_rows
from evaluation.scoring import TEXT, Counts, Outcome, field_counts, judge, leaves
from evaluation.summary import Judged, figures, gain, interval, table, worst
from evaluation.variants import parse


def row(expected: Any, **more: Any) -> dict[str, Any]:
    content = expected if isinstance(expected, str) else json.dumps(expected)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]
    return {"messages": turns, **more}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}


# ---- one answer --------------------------------------------------------------------------------


def test_spacing_and_order_of_keys_do_not_matter_values_do() -> None:
    wanted = row({"a": 1, "b": ["x", "y"]})
    assert judge(wanted, said('{"b":["x","y"],  "a":1}')).exact
    assert not judge(wanted, said('{"a":1,"b":["y","x"]}')).exact
    assert not judge(wanted, said('{"a":1,"b":["x","y"]')).valid


def test_plain_text_is_compared_trimmed() -> None:
    assert judge(row("forty two"), said(" forty two\n")).exact
    assert judge(row("forty two"), said("two")).fields == {TEXT: Counts(1, 0, 1)}


def test_fields_by_hand() -> None:
    expected = {"title": "T", "names": ["Ada", "Bo", "Bo"], "year": 1999, "none": []}
    found = {"title": "T", "names": ["Bo", "Cy"], "year": "1999", "extra": True}
    assert field_counts(expected, found) == {
        "title": Counts(1, 0, 0),
        "names": Counts(1, 1, 2),
        "year": Counts(0, 1, 1),
        "none": Counts(0, 0, 1),
        "extra": Counts(0, 1, 0),
    }
    assert field_counts(expected, "no JSON")["names"] == Counts(0, 0, 3)
    assert Counts(1, 1, 2).f1 == pytest.approx(2 / 5)
    assert Counts().f1 == 1


def test_leaves_of_nested_values() -> None:
    value = {"a": [{"b": 1}, {"b": 2}], "c": {}}
    assert list(leaves(value)) == [(".a[].b", "1"), (".a[].b", "2"), (".c", "{}")]


SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def test_schema_of_the_row() -> None:
    with_schema = row(
        {"a": 1}, response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    )
    assert judge(with_schema, said('{"a": 5}')).schema is True
    assert judge(with_schema, said('{"a": "5"}')).schema is False
    assert judge(with_schema, said("{")).schema is False
    assert judge(row({"a": 1}), said('{"a": 5}')).schema is None


def test_tool_calls_under_their_parameters() -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": SCHEMA}}]
    wanted = {
        "messages": [{"role": "user", "content": "q"}, call("find", '{"a": 1}')],
        "tools": tools,
    }
    right = judge(wanted, call("find", '{"a":1}'))
    assert (right.exact, right.schema) == (True, True)
    assert judge(wanted, call("find", '{"b":1}')).schema is False
    assert judge(wanted, call("lose", '{"a":1}')).schema is False
    silent = judge(wanted, said("I cannot"))
    assert (silent.exact, silent.schema) == (False, False)


# ---- all answers -------------------------------------------------------------------------------


def outcomes(rights: list[bool]) -> list[Outcome]:
    return [
        Outcome("q", '{"a": 1}', '{"a": 1}' if r else '{"a": 2}', True, r, None,
                {"a": Counts(1) if r else Counts(0, 1, 1)}, 10.0 * at)
        for at, r in enumerate(rights)
    ]  # fmt: skip


def test_figures_by_hand() -> None:
    found = figures(Judged("m", outcomes([True, True, False, True]), 2.0, loss=0.0))
    assert (found["exact"], found["valid_json"], found["field_f1"]) == (0.75, 1.0, 0.75)
    assert (found["perplexity"], found["schema_valid"]) == (1.0, None)
    assert (found["ms_per_row"], found["p50_ms"], found["fields"]) == (500.0, 15.0, {"a": 0.75})
    low, high = found["exact_interval"]
    assert 0 <= low < 0.75 < high <= 1


def test_the_interval_is_the_normal_one_for_many_rows() -> None:
    random = Random(5)
    values = [float(random.random() < 0.3) for _ in range(2000)]
    mean, (low, high) = sum(values) / 2000, interval(values)
    half = 1.96 * (mean * (1 - mean) / 2000) ** 0.5
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.003)
    assert interval(values) == interval(values)


def test_a_gain_is_paired() -> None:
    before = Judged("base", outcomes([False] * 60 + [True] * 40), 1)
    clear = gain(before, Judged("tuned", outcomes([True] * 10 + [False] * 50 + [True] * 40), 1))
    assert clear["exact"]["gain"] == 0.1
    # Unpaired, ten points on a hundred rows would not be sure.
    assert clear["exact"]["sure"]
    chance = gain(before, Judged("other", outcomes([True] * 2 + [False] * 59 + [True] * 39), 1))
    assert not chance["exact"]["sure"]
    assert clear["exact_kept"] == 1.25


def test_the_report_of_three_compares_each_with_what_it_came_from() -> None:
    every = [
        Judged(name, outcomes([at > 0, True]), 1) for at, name in enumerate(["base", "tuned", "q8"])
    ]
    pairs = [(each["model"], each["against"]) for each in report(every)["gains"]]
    assert pairs == [("tuned", "base"), ("q8", "base"), ("q8", "tuned")]


def test_the_table_says_what_is_chance() -> None:
    every = [Judged("base", outcomes([False, True]), 1), Judged("tuned", outcomes([True, True]), 1)]
    found = report(every)
    text = table(found["models"], found["gains"])
    assert "whole answer right   50.0%  100.0%" in text
    assert "tuned against base: +50.0 points right" in text
    assert "may be chance" in text


# ---- the page ----------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects tags, links and text, and that every tag is closed."""

    void = ("meta", "polyline", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_escapes() -> None:
    evil = Outcome(
        "<script>q</script>", "e", "<img src=x>", False, False, None, {TEXT: Counts(0, 1, 1)}
    )
    every = [Judged("base", [evil], 1), Judged("tuned & more", [evil], 1)]
    found = report(every)
    curves = {"train_loss": [(1, 3.0), (50, 1.0)], "valid_loss": [(50, 1.5)]}
    text = page("tuned & more", every, found["models"], found["gains"], curves)
    reader = Reader()
    reader.feed(text.removeprefix("<!doctype html>"))
    assert reader.open == []
    assert reader.links == []
    assert "<script" not in text
    assert "<img src=x>" in reader.text
    assert "polyline" in text


def test_the_curve_keeps_within_its_box() -> None:
    svg = curve_svg({"train_loss": [(1, 3.0), (200, 0.5)]})
    points = svg.split('points="')[1].split('"')[0].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert all(0 <= x <= 640 and 0 <= y <= 220 for x, y in places)
    assert places[0][1] < places[1][1]


def test_the_worst_come_first() -> None:
    half = Outcome("q", "", "", True, False, None, {"a": Counts(1, 1, 1)})
    none = Outcome("q", "", "", True, False, None, {"a": Counts(0, 1, 1)})
    good = Outcome("q", "", "", True, True, None, {"a": Counts(1)})
    assert worst([Judged("m", [half, good, none], 1)], 5) == [2, 0]


# ---- arguments ---------------------------------------------------------------------------------


def test_variants(tmp_path: Path) -> None:
    base, adapter = tmp_path / "b.gguf", tmp_path / "a.gguf"
    base.touch()
    adapter.touch()
    assert parse("x=served").name == "served"
    made = parse(f"tuned={base}+{adapter}")
    assert (made.label, made.model, made.adapter) == ("tuned", base, adapter)
    assert parse(f"b={base}").adapter is None
    with pytest.raises(InvalidModel, match=r"none\.gguf is no file"):
        parse("x=none.gguf")
    with pytest.raises(BadRequest, match="LABEL"):
        parse("model.gguf")


def test_a_row_without_an_answer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(json.dumps(row("a")) + '\n{"messages": [{"role": "user", "content": "q"}]}\n')
    with pytest.raises(InvalidData, match=r"f\.jsonl:2: messages"):
        read_rows(file, None)
    assert len(read_rows(file, 1)) == 1
