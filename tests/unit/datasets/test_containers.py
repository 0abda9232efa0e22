"""JSONL, JSON array, CSV and Parquet: rows out as they went in, errors with their line."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.datasets import check, containers, convert
from corral.datasets.findings import Findings, Place
from corral.errors import InvalidData
from tests.unit.datasets import corpus

ROW = {
    "messages": [
        {"role": "user", "content": "q\r\n\"'é,\t🦙"},
        {"role": "assistant", "content": "a"},
    ]
}


def read(path: Path) -> tuple[list[dict[str, Any]], Findings, list[int]]:
    """All good rows, findings, and the line of each good row."""
    findings = Findings()
    place = Place(findings, str(path))
    rows, lines = [], []
    for value in containers.read(path, place):
        rows.append(value)
        lines.append(place.line)
    return rows, findings, lines


@pytest.mark.parametrize("name", corpus.NAMES)
@pytest.mark.parametrize("suffix", [".json", ".csv", ".tsv", ".parquet"])
def test_a_corpus_survives_every_container_or_the_report_says_what_does_not(
    name: str, suffix: str, tmp_path: Path
) -> None:
    there, back = tmp_path / f"rows{suffix}", tmp_path / "back.jsonl"
    findings = Findings()
    convert.convert(
        corpus.file_of(name), there, convert.Options(to=name, source_format=name), findings
    )
    before = len(findings.kept)
    [result] = convert.convert(there, back, convert.Options(to=name, source_format=name), findings)
    assert result.written == len(corpus.lines(name)), findings.kept[before:]
    for raw, again in zip(corpus.lines(name), back.read_bytes().splitlines(), strict=True):
        one = corpus.read(name, raw, corpus.place())
        other = corpus.read(name, again, corpus.place())
        if one != other:
            reported = [f for f in findings.kept if f.severity in ("loss", "note")]
            assert reported, (one, other)


def test_jsonl_keeps_rows_of_the_same_format_byte_for_byte(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    odd = b'{ "messages" : [ {"role":"user","content":"\\u00e9"},{"content":"a","role":"assistant"} ] , "n": 1.50 }'
    source.write_bytes(odd + b"\n" + odd)
    convert.convert(source, out, convert.Options(to="openai"), Findings())
    assert out.read_bytes() == odd + b"\n" + odd + b"\n"


def test_line_numbers_survive_blank_long_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROW).encode()
    path.write_bytes(
        b"\xef\xbb\xbf" + good + b"\r\n\n  \n{bad\n" + b'{"x":"' + b"y" * 9_000_000 + b'"}\n' + good
    )
    rows, findings, lines = read(path)
    assert rows == [ROW, ROW]
    assert lines == [1, 6]
    found = {(finding.line, finding.code) for finding in findings.kept}
    assert found == {
        (1, "bom"),
        (2, "blank_line"),
        (3, "blank_line"),
        (4, "bad_json"),
        (5, "row_too_long"),
    }


def test_a_small_row_limit_holds_within_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(ROW | {"pad": "x" * n}) + "\n" for n in (1, 300, 2)))
    findings = Findings()
    place = Place(findings, "f")
    assert len(list(check.read_rows(path, check.find_format(path, "openai"), place, 200))) == 2
    assert [(f.line, f.code) for f in findings.kept] == [(2, "row_too_long")]


def test_an_array_is_read_element_by_element(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    good = json.dumps(ROW, indent=2)
    path.write_text(f'[\n{good},\n{{"a": "]}},{{"}},\n{{"a": 1, "a": 2}},\n{good}\n]\n')
    rows, findings, lines = read(path)
    assert rows == [ROW, {"a": "]},{"}, ROW]
    assert [(f.line, f.code) for f in findings.kept] == [(lines[1] + 1, "duplicate_key")]
    assert lines[0] == 2


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('[{"a":1},', 1),
        ('[{"a":1}', 0),
        ('[{"a":1}] x', 1),
        ('[{"a":1},{"b":[1}]', 1),
        ("[1]", 0),
        ('[{"a":1},,{"a":2}]', 2),
    ],
)
def test_a_broken_array_is_an_error_after_its_good_elements(
    text: str, good: int, tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    rows, findings, _ = read(path)
    assert len(rows) == good
    assert findings.count("error") == 1


def test_csv_reports_its_own_troubles_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'prompt,completion\np1,c1\n"two\nlines",c2\nonly one\n\xff,c\np3,c3\n')
    rows, findings, lines = read(path)
    assert [row["prompt"] for row in rows] == ["p1", "two\nlines", "p3"]
    assert lines == [2, 3, 7]
    assert [(f.line, f.code) for f in findings.kept] == [(5, "bad_csv"), (6, "not_utf8")]


def test_csv_with_semicolons_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt;completion\na, b;c\n")
    assert read(path)[0] == [{"prompt": "a, b", "completion": "c"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b" \n\n", "is empty"),
        ("a.jsonl", "{}".encode("utf-16"), "UTF-16"),
        ("a.parquet", b"PAR1 nonsense", "no readable Parquet"),
        ("a.jsonl", b'{"a":1}\n', "no known format"),
        ("a.jsonl", b"{\n", "no good row"),
    ],
)
def test_a_file_that_is_no_dataset_gets_one_message(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=message):
        check.check_files([path], Findings())


def test_a_missing_file_and_a_folder_get_one_message(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot read"):
        check.check_files([tmp_path / "none.jsonl"], Findings())
    with pytest.raises(InvalidData, match="is a folder"):
        check.check_files([tmp_path], Findings())


def test_nothing_is_left_behind_when_nothing_is_written(tmp_path: Path) -> None:
    source = corpus.file_of("openai")
    out = tmp_path / "out.parquet"
    findings = Findings(strict=True)
    [result] = convert.convert(source, out, convert.Options(to="bedrock", strict=True), findings)
    assert result.written == 0
    assert findings.failed
    assert list(tmp_path.iterdir()) == []
