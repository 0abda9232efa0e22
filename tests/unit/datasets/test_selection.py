"""Split, sample, shuffle and mix."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from corral.datasets import selection
from corral.datasets.findings import Findings
from corral.errors import InvalidData


def rows(count: int, start: int = 0) -> list[str]:
    return [
        json.dumps(
            {"prompt": f"question {n // 2}", "completion": f"answer {n}", "group": f"g{n % 30}"}
        )
        for n in range(start, start + count)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows(600)) + "\n")
    return path


def split(
    path: Path, folder: Path, group: str | None = None, **shares: float
) -> dict[str, list[str]]:
    """The lines of each split."""
    wanted = SimpleNamespace(**{"valid": 0.2, "test": 0.1, "seed": 1, **shares})
    counts = selection.split(path, folder, wanted, Findings(), group)
    result = {name: (folder / f"{name}.jsonl").read_text().splitlines() for name in counts}
    assert {name: len(lines) for name, lines in result.items()} == counts
    return result


def test_a_split_keeps_every_line_and_about_the_shares(file: Path, tmp_path: Path) -> None:
    parts = split(file, tmp_path / "out")
    assert sorted(line for lines in parts.values() for line in lines) == sorted(rows(600))
    assert 80 <= len(parts["valid"]) <= 160
    assert 30 <= len(parts["test"]) <= 95


def test_rows_with_one_question_share_a_split(file: Path, tmp_path: Path) -> None:
    parts = split(file, tmp_path / "out")
    asked = [{json.loads(line)["prompt"] for line in lines} for lines in parts.values()]
    assert not asked[0] & asked[1]
    assert not asked[0] & asked[2]


def test_a_group_shares_a_split_and_must_be_in_every_row(file: Path, tmp_path: Path) -> None:
    parts = split(file, tmp_path / "out", group="group")
    groups = [{json.loads(line)["group"] for line in lines} for lines in parts.values()]
    assert sum(map(len, groups)) == 30
    findings = Findings()
    with pytest.raises(InvalidData):
        selection.split(
            file, tmp_path / "o2", SimpleNamespace(valid=0.1, test=0, seed=1), findings, "nope"
        )
    assert findings.count("error") == 600


def test_appended_rows_leave_the_others_where_they_are(file: Path, tmp_path: Path) -> None:
    before = split(file, tmp_path / "before")
    file.write_text("\n".join(rows(900)) + "\n")
    after = split(file, tmp_path / "after")
    for name, lines in before.items():
        assert set(lines) <= set(after[name])


def test_another_seed_splits_otherwise_and_the_same_seed_the_same(
    file: Path, tmp_path: Path
) -> None:
    one, again = split(file, tmp_path / "1"), split(file, tmp_path / "2")
    other = split(file, tmp_path / "3", seed=2)
    assert one == again
    assert one != other


def test_an_empty_split_and_bad_shares_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(rows(1)[0])
    with pytest.raises(InvalidData, match="would be empty"):
        split(path, tmp_path / "out", valid=0.3)
    assert not (tmp_path / "out" / "train.jsonl").exists()
    with pytest.raises(InvalidData, match="below 1"):
        split(path, tmp_path / "out", valid=0.9, test=0.1)


def test_shuffle_keeps_all_rows_and_the_order_of_old_ones(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert selection.shuffle(file, out, 1, Findings()) == 600
    before = out.read_text().splitlines()
    assert sorted(before) == sorted(rows(600))
    assert before != rows(600)
    file.write_text("\n".join(rows(900)) + "\n")
    selection.shuffle(file, out, 1, Findings())
    old = set(rows(600))
    assert [line for line in out.read_text().splitlines() if line in old] == before


def test_equal_rows_are_spread_by_a_shuffle(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text("\n".join(rows(100) + [rows(1)[0]] * 50) + "\n")
    selection.shuffle(path, out, 1, Findings())
    places = [n for n, line in enumerate(out.read_text().splitlines()) if line == rows(1)[0]]
    assert max(b - a for a, b in pairwise(places)) > 1
    assert places[-1] - places[0] > 75


def test_sample_takes_rows_in_file_order_and_keeps_most_when_rows_are_added(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert selection.sample(file, out, 60, 1, Findings()) == 60
    before = out.read_text().splitlines()
    assert before == [line for line in rows(600) if line in set(before)]
    file.write_text("\n".join(rows(660)) + "\n")
    assert selection.sample(file, out, 0.1, 1, Findings()) == 66
    assert len(set(before) & set(out.read_text().splitlines())) >= 50
    with pytest.raises(InvalidData, match="700 rows asked"):
        selection.sample(file, out, 700, 1, Findings())


def test_mix_takes_shares_without_repeats(tmp_path: Path) -> None:
    one, two, out = (tmp_path / f"{name}.jsonl" for name in "abo")
    one.write_text("\n".join(rows(100)) + "\n")
    two.write_text("\n".join(rows(100, 1000)) + "\n")
    counts = selection.mix([(one, 3), (two, 1)], out, 80, 1, Findings())
    assert list(counts.values()) == [60, 20]
    lines = out.read_text().splitlines()
    assert len(set(lines)) == 80
    assert sum(line in set(rows(100)) for line in lines[:40]) < 40
    assert list(selection.mix([(one, 3), (two, 1)], out, None, 1, Findings()).values()) == [100, 33]
    with pytest.raises(InvalidData, match="100 good rows, 150 are needed"):
        selection.mix([(one, 3), (two, 1)], out, 200, 1, Findings())


def test_mix_refuses_files_of_different_formats(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "t.jsonl"
    other.write_text('{"text":"x"}\n')
    with pytest.raises(InvalidData, match="differ in format"):
        selection.mix([(file, 1), (other, 1)], tmp_path / "o.jsonl", None, 1, Findings())


def test_other_containers_are_read_and_written(file: Path, tmp_path: Path) -> None:
    parquet, back = tmp_path / "rows.parquet", tmp_path / "back.json"
    selection.shuffle(file, parquet, 1, Findings())
    selection.sample(parquet, back, 0.5, 1, Findings())
    assert len(json.loads(back.read_text())) == 300
