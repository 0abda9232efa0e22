"""`corral data` as people type it: output, exit codes, files."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from corral.cli import main
from corral.cli.data import FormatName
from corral.datasets.formats import FORMATS

CORPUS = Path(__file__).parents[1] / "data" / "datasets"


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def corral(*arguments: str | Path) -> Done:
    """Run `corral data …` as the console script does, in this process: a start takes a second."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["corral", "data", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def test_the_command_starts_on_its_own() -> None:
    program = "from corral.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "data", "formats"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("openai: OpenAI chat")


def chat(user: str, answer: str) -> str:
    return json.dumps(
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.jsonl"
    path.write_text(
        "".join(
            chat(f"what is the shelf mark of item {n * 7919}?", f"QA{n}.{n * 31}") + "\n"
            for n in range(40)
        )
    )
    return path


def result(done: Done) -> Any:
    return json.loads(done.stdout)


def test_the_command_line_offers_the_formats_there_are() -> None:
    assert [name.value for name in FormatName] == list(FORMATS)


def test_check_says_nothing_on_stdout_of_a_good_file(good: Path) -> None:
    done = corral("check", good)
    assert (done.returncode, done.stdout) == (0, "")
    assert "openai (found): 40 good rows, 0 bad" in done.stderr


def test_check_prints_every_error_in_one_pass_and_exits_1(good: Path) -> None:
    lines = good.read_text().splitlines()
    lines[4], lines[9] = '{"messages": [{"role": "bot", "content": 1}]}', "{"
    good.write_text("\n".join(lines))
    done = corral("check", good)
    assert done.returncode == 1
    assert f"{good}:5: messages[0].role: found 'bot'; allowed: system" in done.stdout
    assert f"{good}:10:" in done.stdout
    assert "Traceback" not in done.stderr


def test_check_as_json_has_the_fields_that_machines_read(good: Path) -> None:
    good.write_text(good.read_text() + '{"messages": []}\n')
    done = corral("check", good, "--json")
    value = result(done)
    assert done.returncode == 1
    assert value["ok"] is False
    assert value["files"] == [
        {"file": str(good), "format": "openai", "detected": True, "rows": 40, "bad_rows": 1}
    ]
    [finding] = value["findings"]
    assert finding == {
        "file": str(good),
        "line": 41,
        "field": "messages",
        "code": "bad_messages",
        "message": "found an empty list; must be a list with at least one message",
        "severity": "error",
    }


def test_printed_findings_are_limited_counted_and_all_in_the_report(
    good: Path, tmp_path: Path
) -> None:
    good.write_text("{\n" * 300 + good.read_text())
    done = corral(
        "check", good, "--max-findings", "5", "--report", tmp_path / "all.jsonl", "--from", "openai"
    )
    assert done.stdout.count("bad_json") == 5
    assert "and 295 more" in done.stdout
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 300


def test_a_leak_between_files_is_an_error(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "valid.jsonl"
    other.write_text(good.read_text().splitlines()[3] + "\n")
    done = corral("check", good, other)
    assert done.returncode == 1
    assert f"{other}:1: the same row as {good}:4" in done.stdout


def test_the_html_report_is_one_file_without_anything_fetched(good: Path, tmp_path: Path) -> None:
    good.write_text(
        good.read_text() + chat("<script>alert(1)</script> key AKIAIOSFODNN7EXAMPLE", "ok") + "\n"
    )
    page = tmp_path / "report.html"
    assert corral("check", good, "--html", page).returncode == 0
    text = page.read_text()
    assert "personal" in text or "secret" in text
    assert "<script" not in text
    assert "http" not in text


def test_convert_reports_what_is_lost_and_strict_refuses(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = corral("convert", CORPUS / "openai.jsonl", out, "--to", "bedrock")
    assert done.returncode == 0
    assert (
        "openai.jsonl:3: messages[1]: bedrock holds no tool calls; row left out [loss: lost_tool_calls]"
        in done.stderr
    )
    assert "20 rows read, 12 written, 8 left out, 0 bad" in done.stderr
    strict = corral(
        "convert", CORPUS / "openai.jsonl", tmp_path / "strict.jsonl", "--to", "bedrock", "--strict"
    )
    assert strict.returncode == 1
    assert not (tmp_path / "strict.jsonl").exists()


def test_convert_keeps_good_rows_and_exits_1_after_bad_ones(good: Path, tmp_path: Path) -> None:
    good.write_text(good.read_text() + "{\n")
    out = tmp_path / "out.jsonl"
    done = corral("convert", good, out, "--to", "alpaca", "--json")
    assert done.returncode == 1
    assert result(done)["results"][0]["written"] == 40
    assert len(out.read_text().splitlines()) == 40


def test_convert_rewrites_python_answers_as_json(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = corral("convert", CORPUS / "mlx-text.jsonl", out, "--to", "openai", "--fix-answers")
    assert done.returncode == 0
    first = json.loads(out.read_text().splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert json.loads(first["messages"][2]["content"])["modeOfIssuanceText"] == "Monograph"


def test_convert_to_mlx_fills_a_folder_which_check_reads(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    done = corral("convert", good, folder, "--to", "mlx", "--valid", "0.2", "--test", "0.2")
    assert done.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "valid.jsonl",
    ]
    assert sum(len(path.read_text().splitlines()) for path in folder.iterdir()) == 40
    assert corral("check", folder, "--json").returncode == 0
    back = corral("convert", folder, tmp_path / "back", "--to", "sharegpt")
    assert back.returncode == 0
    assert corral("convert", folder, tmp_path / "one.jsonl", "--to", "openai").returncode == 1


def test_split_sample_shuffle_and_mix(good: Path, tmp_path: Path) -> None:
    done = corral("split", good, "--valid", "0.2", "--seed", "3", "--json")
    assert result(done)["rows"].keys() == {"train", "valid"}
    assert (tmp_path / "good" / "valid.jsonl").exists()
    assert corral("sample", good, tmp_path / "s.jsonl", "--rows", "10").returncode == 0
    assert corral("shuffle", good, tmp_path / "h.jsonl").returncode == 0
    assert sorted((tmp_path / "h.jsonl").read_text().splitlines()) == sorted(
        good.read_text().splitlines()
    )
    done = corral(
        "mix", f"{good}:2", f"{tmp_path / 's.jsonl'}:1", "--out", tmp_path / "m.jsonl", "--json"
    )
    assert list(result(done)["rows"].values()) == [20, 10]
    done = corral("sample", good, tmp_path / "t.jsonl", "--rows", "41")
    assert done.returncode == 1
    assert "41 rows asked of" in done.stderr


def test_show_explains_the_format_and_prints_rows() -> None:
    done = corral("show", CORPUS / "gemini.jsonl", "--rows", "1")
    assert done.returncode == 0
    assert "gemini (Gemini contents)" in done.stdout
    assert "Be kind." in done.stdout
    assert result(corral("show", CORPUS / "trl.jsonl", "--json"))["format"] == "trl"


def test_formats_explains_one_and_all() -> None:
    assert "roles_to_train" not in corral("formats", "bedrock").stdout
    assert len(result(corral("formats", "--json"))) == len(FORMATS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "nowhere.jsonl"], 1, "cannot read nowhere.jsonl: No such file"),
        (["convert", "nowhere.jsonl", "out.jsonl", "--to", "yaml"], 2, "yaml"),
        (["check", "rows.jsonl", "--context", "10"], 2, "--context needs --model"),
        (["count", "rows.jsonl", "--model", "nowhere.gguf"], 1, "nowhere.gguf is no file"),
        (["split", "rows.jsonl", "--valid", "1.5"], 1, "below 1"),
        (["check", "rows.jsonl", "--report", "no/where.jsonl"], 1, "no/where.jsonl: No such file"),
        (["check", "rows.jsonl", "--html", "no/where.html"], 1, "cannot write no/where.html"),
        (
            ["convert", "rows.jsonl", "/dev/null/x.jsonl", "--to", "mlx"],
            1,
            "cannot write /dev/null",
        ),
        (["mix", "rows.jsonl:0", "--out", "o.jsonl"], 1, "weight above 0"),
    ],
)
def test_wrong_use_is_one_message_and_its_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(chat("q", "a") + "\n")
    done = corral(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
