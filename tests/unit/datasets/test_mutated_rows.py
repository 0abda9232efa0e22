"""2,000 broken rows among good ones: a clear error each, never a traceback, good rows kept."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.datasets import check, convert
from corral.datasets.findings import Findings

GOOD = [
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"question {n} é 🦙"},
                {"role": "assistant", "content": f"answer {n}"},
            ]
        },
        ensure_ascii=False,
    ).encode()
    for n in range(200)
]


def cut(raw: bytes, draw: random.Random) -> bytes:
    return raw[: draw.randrange(1, len(raw) - 1)]


def cut_in_a_character(raw: bytes, draw: random.Random) -> bytes:
    at = raw.index("🦙".encode()) + draw.randrange(1, 4)
    return raw[:at] + raw[raw.index("🦙".encode()) + 4 :]


def insert(piece: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Put `piece` somewhere inside a content."""

    def mutate(raw: bytes, draw: random.Random) -> bytes:
        at = raw.index(b"question") + draw.randrange(0, 8)
        return raw[:at] + piece + raw[at:]

    return mutate


def value(piece: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Make `piece` the value of a key that is added."""
    return lambda raw, draw: raw[:-1] + b', "x": ' + piece + b"}"


def replace(old: bytes, new: bytes) -> Callable[[bytes, random.Random], bytes]:
    return lambda raw, draw: raw.replace(old, new, 1)


def deep(raw: bytes, draw: random.Random) -> bytes:
    opening, closing = draw.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return raw[:-1] + b', "x": ' + opening * 10_000 + b"1" + closing * 10_000 + b"}"


MUTATIONS: dict[str, tuple[Callable[[bytes, random.Random], bytes], set[str]]] = {
    "cut": (cut, {"bad_json", "not_utf8"}),
    "cut in a character": (cut_in_a_character, {"not_utf8"}),
    "Latin-1 byte": (insert(b"\xe9"), {"not_utf8"}),
    "raw surrogate": (insert(b"\xed\xb0\x80"), {"not_utf8"}),
    "BOM": (lambda raw, draw: b"\xef\xbb\xbf" + raw, {"bom"}),
    "NUL byte": (insert(b"\0"), {"nul_character"}),
    "NUL escape": (insert(b"\\u0000"), {"nul_character"}),
    "high surrogate": (insert(b"\\ud83e"), {"lone_surrogate"}),
    "low surrogate": (insert(b"\\udd99"), {"lone_surrogate"}),
    "control character": (insert(b"\x07"), {"bad_json"}),
    "bad escape": (insert(b"\\x41"), {"bad_json"}),
    "deep nesting": (deep, {"too_deep"}),
    "key twice": (lambda raw, draw: raw[:-1] + b', "messages": []}', {"duplicate_key"}),
    "role twice": (
        replace(b'{"role": "user"', b'{"role": "user", "role": "user"'),
        {"duplicate_key"},
    ),
    "NaN": (value(b"NaN"), {"not_a_number"}),
    "Infinity": (value(b"-Infinity"), {"not_a_number"}),
    "huge float": (value(b"1e999"), {"number_too_big"}),
    "single quotes": (lambda raw, draw: raw.replace(b'"', b"'"), {"bad_json"}),
    "comment": (lambda raw, draw: raw + b" // note", {"bad_json"}),
    "two rows": (lambda raw, draw: raw + raw, {"bad_json"}),
    "array": (lambda raw, draw: b"[" + raw + b"]", {"not_an_object"}),
    "no messages": (replace(b'"messages"', b'"mesages"'), {"missing_field"}),
    "messages null": (lambda raw, draw: b'{"messages": null}', {"bad_messages"}),
    "unknown role": (replace(b'"user"', b'"human"'), {"bad_role"}),
    "number as content": (
        replace(b'"content": "answer', b'"content": 7, "was": "answer'),
        {"bad_content"},
    ),
    "turn is text": (replace(b'[{"role"', b'["hi", {"role"'), {"wrong_type"}),
    "bad weight": (
        replace(b'"role": "assistant"', b'"role": "assistant", "weight": 0.5'),
        {"bad_weight"},
    ),
    "bad calls": (
        replace(b'"role": "assistant"', b'"role": "assistant", "tool_calls": [{"id": 1}]'),
        {"bad_tool_call"},
    ),
    "empty answer": (
        replace(b'"assistant", "content": "answer', b'"assistant", "content": "", "was": "'),
        {"empty_answer"},
    ),
}
ROWS = 2000


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, set[str]], int]:
    """A file with a good row after every ten broken ones; what each line should be called."""
    draw = random.Random(5)
    names = list(MUTATIONS)
    lines: list[bytes] = []
    expected: dict[int, set[str]] = {}
    good = iter(GOOD)
    for number in range(ROWS):
        if number % 10 == 0:
            lines.append(next(good))
        mutate, codes = MUTATIONS[names[number % len(names)]]
        lines.append(mutate(GOOD[draw.randrange(len(GOOD))], draw))
        expected[len(lines)] = codes
    for _ in range(2):
        lines.append(b'{"messages": "' + b"x" * 10_000_000 + b'"}')
        expected[len(lines)] = {"row_too_long"}
    path = tmp_path_factory.mktemp("mutated") / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path, expected, ROWS // 10


def test_each_broken_row_has_its_error_and_good_rows_are_kept(
    broken: tuple[Path, dict[int, set[str]], int],
) -> None:
    path, expected, good = broken
    findings = Findings(keep=10**9)
    options = check.Options(format="openai", near_duplicates=False)
    [report] = check.check_files([path], findings, options)
    assert report.rows == good
    assert report.bad_rows == len(expected)
    found: dict[int, set[str]] = {}
    for finding in findings.kept:
        if finding.severity == "error":
            assert finding.message
            found.setdefault(finding.line, set()).add(finding.code)
    assert found.keys() == expected.keys()
    wrong = {
        line: (found[line], codes) for line, codes in expected.items() if not found[line] & codes
    }
    assert not wrong


def test_convert_writes_exactly_the_good_rows(
    broken: tuple[Path, dict[int, set[str]], int], tmp_path: Path
) -> None:
    path, _, good = broken
    out = tmp_path / "out.jsonl"
    findings = Findings()
    [result] = convert.convert(
        path, out, convert.Options(to="sharegpt", source_format="openai", check=True), findings
    )
    assert result.written == good
    assert findings.failed
    assert [
        json.loads(line)["conversations"][0]["value"] for line in out.read_bytes().splitlines()
    ] == [json.loads(raw)["messages"][0]["content"] for raw in GOOD[:good]]
