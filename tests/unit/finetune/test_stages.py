"""The stages that are Corral's own: files checked and rows held out, room waited for, a step back."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from corral.errors import InvalidData, ToolError
from corral.finetune import beside, memory, validate
from corral.finetune.memory import Need, Training
from corral.finetune.stage_events import Events
from corral.machine import Memory
from corral.registry import training_memory
from corral.registry.training_memory import Dimensions
from corral.settings import Settings
from tests.unit.finetune.conftest import ROW

PAIR = {
    "input": {"messages": [{"role": "user", "content": "1"}]},
    "preferred_output": [{"role": "assistant", "content": "2"}],
    "non_preferred_output": [{"role": "assistant", "content": "3"}],
}
MIB = 1024**2


def row(number: int) -> str:
    return ROW.replace('"1"', f'"question {number}"')


def run(tmp_path: Path, training: str, **more: Any) -> dict[str, int]:
    """The stage over these rows, as a job runs it."""
    args: dict[str, Any] = {
        "training": write(tmp_path / "t", training), "validation": None, "evaluation": None,
        "out": tmp_path / "input", "method": "supervised", "engine": "peft", "rows": 200, "seed": 1,
    }  # fmt: skip
    for name in ("validation", "evaluation"):
        if name in more:
            more[name] = write(tmp_path / name, more[name])
    return validate.validate(Namespace(**args | more), Events(None))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def with_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(validate.PACKAGES, "peft", ("json",))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_twentieth_of_the_rows_is_held_out_and_the_others_keep_their_numbers(
    tmp_path: Path,
) -> None:
    text = "".join(row(number) for number in range(100))
    counts = run(tmp_path, text)
    assert counts == {"training_rows": 95, "validation_rows": 0, "evaluation_rows": 5}
    there, given = lines(tmp_path / "input" / validate.TRAINING), text.splitlines()
    blank = [number for number, line in enumerate(there) if not line]
    assert len(blank) == 5
    assert [line for line in there if line] == [
        line for number, line in enumerate(given) if number not in blank
    ]
    asked = [json.loads(line)["messages"] for line in lines(tmp_path / "input/evaluation.jsonl")]
    assert asked == [json.loads(given[number])["messages"] for number in blank]
    first = (tmp_path / "input" / validate.TRAINING).read_bytes()
    run(tmp_path, text)
    assert (tmp_path / "input" / validate.TRAINING).read_bytes() == first
    run(tmp_path, text, seed=2)
    assert (tmp_path / "input" / validate.TRAINING).read_bytes() != first


@pytest.mark.parametrize(("count", "rows"), [(49, 200), (100, 0)])
def test_few_rows_or_nothing_to_measure_hold_nothing_out(
    tmp_path: Path, count: int, rows: int
) -> None:
    counts = run(tmp_path, ROW * count, rows=rows)
    assert counts == {"training_rows": count, "validation_rows": 0, "evaluation_rows": 0}
    assert (tmp_path / "input" / validate.TRAINING).samefile(tmp_path / "t")
    assert not (tmp_path / "input" / validate.EVALUATION).exists()


def test_a_validation_file_is_what_is_measured_with(tmp_path: Path) -> None:
    counts = run(tmp_path, ROW * 60, validation="".join(map(row, range(9))), rows=4)
    assert counts == {"training_rows": 60, "validation_rows": 9, "evaluation_rows": 4}
    other = run(tmp_path, ROW * 60, validation=ROW * 9, evaluation=ROW * 3)
    assert other["evaluation_rows"] == 3


def test_prompts_with_completions_are_measured_as_chats(tmp_path: Path) -> None:
    text = "".join(json.dumps({"prompt": f"p{n}", "completion": "c"}) + "\n" for n in range(60))
    assert run(tmp_path, text)["evaluation_rows"] == 3
    (first, *_) = lines(tmp_path / "input" / validate.EVALUATION)
    assert [turn["role"] for turn in json.loads(first)["messages"]] == ["user", "assistant"]


def test_preferences_are_for_dpo(tmp_path: Path) -> None:
    text = (json.dumps(PAIR) + "\n") * 60
    counts = run(tmp_path, text, method="dpo")
    assert counts == {"training_rows": 60, "validation_rows": 0, "evaluation_rows": 0}
    with pytest.raises(InvalidData, match="line 1: its rows are preferences") as caught:
        run(tmp_path, text)
    assert (caught.value.param, caught.value.code) == ("training_file", "wrong_method")
    with pytest.raises(InvalidData, match="its rows are conversations"):
        run(tmp_path, ROW * 20, method="dpo")


def test_the_engine_llama_cpp_learns_text_and_holds_nothing_out(tmp_path: Path) -> None:
    text = "".join(json.dumps({"text": f"number {n}"}) + "\n" for n in range(60))
    counts = run(tmp_path, text, engine="llama.cpp")
    assert counts == {"training_rows": 60, "validation_rows": 0, "evaluation_rows": 0}
    asked = run(tmp_path, text, engine="llama.cpp", evaluation=ROW * 3)
    assert asked["evaluation_rows"] == 3
    with pytest.raises(InvalidData, match="this engine trains on plain text; choose another one"):
        run(tmp_path, ROW * 20, engine="llama.cpp")
    with pytest.raises(InvalidData, match="its rows are plain text, this method"):
        run(tmp_path, text)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "training_file, line 3: "),
        ('{"messages": []}', "training_file, line 3, messages: "),
        ('{"messages": [{"role": "x", "content": "1"}]}', "line 3, messages[0].role: "),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(InvalidData) as caught:
        run(tmp_path, f"{ROW * 2}{bad}\n{ROW * 5}")
    assert said in caught.value.message
    assert caught.value.param == "training_file"


@pytest.mark.parametrize("text", ["", "\n\n", "[1]\n", "\x00\x01"])
def test_a_file_without_rows_is_refused_without_naming_a_path(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidData) as caught:
        run(tmp_path, ROW * 20, validation=text)
    assert caught.value.param == "validation_file"
    assert str(tmp_path) not in caught.value.message


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="its content is gone"):
        validate.checked(tmp_path / "nope", "training_file", ("chat",), Events(None))


def test_an_engine_that_is_not_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(validate.PACKAGES, "peft", ("json", "no_such_package"))
    with pytest.raises(ToolError, match="needs no_such_package, not installed") as caught:
        run(tmp_path, ROW * 20)
    assert caught.value.code == "engine_missing"


def test_a_failure_says_why_to_programs_and_people(tmp_path: Path) -> None:
    path, events = write(tmp_path / "t", "{\n"), tmp_path / "events"
    argv = [sys.executable, "-m", "corral.finetune.validate", f"--training={path}"]
    argv += [f"--out={tmp_path / 'input'}", f"--events={events}", "--note=careful"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert told[0] == {"type": "message", "level": "warning", "text": "careful"}
    assert told[-1]["type"] == "failure"


# ---- beside serving --------------------------------------------------------------------------------


MEASURED = [
    # Tokens of a micro-batch, precision, peak in MiB of training the bundled base in two lanes (docs/log.md, 2026-11-30).
    (256, "fp32", 678),
    (256, "bf16", 821),
    (1024, "fp32", 835),
    (1024, "bf16", 972),
    (4096, "fp32", 2102),
]
LONGEST = 569


@pytest.mark.parametrize(("tokens", "precision", "peak"), MEASURED)
def test_the_estimate_is_near_what_was_measured(tokens: int, precision: str, peak: int) -> None:
    path = Settings().bundled_models_dir / "corral-tiny.gguf"
    need = memory.need_of(path, Training(tokens, longest=LONGEST, precision=precision))
    assert need.least <= need.usual
    assert 0.8 <= need.usual / MIB / peak <= 1.3


TINY = Dimensions(5, 256, 512, 4, 2048), 3_476_224, 655_360
SMALL = Dimensions(11, 512, 1280, 8, 2048), 29_896_192, 3_063_808
LARGE = Dimensions(24, 768, 2048, 12, 2048), 150_246_144, 5_160_960
LARGER = [
    # Models of scripts/random_model.py: dimensions, parameters, those of the adapter; the same as above;
    # the last two with gradient checkpointing.
    (*SMALL, 1024, False, False, 1415),
    (*SMALL, 1024, True, False, 1262),
    (*SMALL, 4096, False, False, 4352),
    (*SMALL, 4096, True, False, 2405),
    (*LARGE, 1024, False, False, 3910),
    (*LARGE, 1024, True, False, 2531),
    (*SMALL, 4096, False, True, 1849),
    (*TINY, 4096, False, True, 936),
]


@pytest.mark.parametrize(
    ("sizes", "parameters", "adapter", "tokens", "bf16", "checkpointed", "peak"), LARGER
)
def test_the_estimate_holds_for_other_models(
    sizes: Dimensions,
    parameters: int,
    adapter: int,
    tokens: int,
    bf16: bool,
    checkpointed: bool,
    peak: int,
) -> None:
    found = training_memory.fixed_bytes(parameters, adapter, bf16=bf16, cpu=True)
    found += training_memory.step_bytes(
        sizes, tokens, LONGEST, bf16=bf16, cpu=True, checkpointed=checkpointed
    )
    assert 0.8 <= found / MIB / peak <= 1.3


FULL = [
    (*TINY[:2], 149),
    (*SMALL[:2], 761),
    (Dimensions(13, 768, 2048, 12, 2048), 82_104_576, 1774),
]


@pytest.mark.parametrize(("sizes", "parameters", "peak"), FULL)
def test_the_estimate_holds_for_llama_finetune(
    sizes: Dimensions, parameters: int, peak: int
) -> None:
    assert 0.9 <= training_memory.full_bytes(sizes, parameters) / MIB / peak <= 1.1


def test_every_weight_is_estimated_by_what_llama_finetune_takes() -> None:
    path = Settings().bundled_models_dir / "corral-tiny.gguf"
    need = memory.need_of(path, Training(full=True))
    assert need.least == need.usual == training_memory.full_bytes(*FULL[0][:2])


def test_fewer_tokens_and_rows_need_less(tmp_path: Path) -> None:
    path = Settings().bundled_models_dir / "corral-tiny.gguf"
    usual, few = (memory.need_of(path, Training(n, precision="fp32")) for n in (4096, 1024))
    assert few.usual < usual.usual
    assert usual.least < usual.usual
    write(tmp_path / "rows.json", '{"longest": 77}')
    assert memory.longest_row(tmp_path) == 77
    assert memory.longest_row(tmp_path / "none") == memory.longest_row(None) == memory.USUAL_LENGTH


def room(monkeypatch: pytest.MonkeyPatch, need: Need, *free: int) -> list[tuple[str, str]]:
    """What is told while memory changes from one look to the next; 1000 MiB in all."""
    looks = iter(Memory("RAM", 1000 * MIB, amount * MIB) for amount in free)
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(beside, "place_for", lambda *_: next(looks))
    monkeypatch.setattr(beside, "POLL_SECONDS", 0)
    events = Events(None)
    monkeypatch.setattr(events, "message", lambda text, level="info": told.append((level, text)))
    beside.wait_for_room(need, "cpu", events)
    return told


def test_training_runs_beside_serving_when_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    ((level, text),) = room(monkeypatch, Need(500 * MIB, 300 * MIB), 600)
    assert level == "info"
    assert text.startswith("training runs beside serving: it needs about 0.5 GB, 0.6 GB of 1.0 GB")
    ((_, text),) = room(monkeypatch, Need(700 * MIB, 300 * MIB), 600)
    assert "with gradient checkpointing" in text


def test_training_waits_until_there_is_room_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = room(monkeypatch, Need(700 * MIB, 600 * MIB), 100, 100, 100, 650)
    assert [level for level, _ in told] == ["warning", "info"]
    assert told[0][1].startswith("training waits: it needs about 0.6 GB at least, and only 0.1 GB")


def test_what_could_never_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match=r"lower `corral\.micro_tokens`") as caught:
        room(monkeypatch, Need(3000 * MIB, 2000 * MIB), 900)
    assert caught.value.code == "out_of_memory"


def run_beside(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "corral.finetune.beside", *arguments]
    return subprocess.run(argv, capture_output=True, text=True)


def test_a_stage_runs_at_low_priority_with_its_own_exit_status(tmp_path: Path) -> None:
    script = write(
        tmp_path / "s.py", "import os, sys; print(os.nice(0), sys.argv[1:]); sys.exit(7)"
    )
    done = run_beside("--", sys.executable, str(script), "a", "--events", "/dev/null")
    assert (done.returncode, done.stdout) == (
        7,
        f"{min(19, beside.NICE + os.nice(0))} ['a', '--events', '/dev/null']\n",
    )


def test_a_flag_is_given_where_its_file_is_there(tmp_path: Path) -> None:
    script = write(tmp_path / "s.py", "import sys; print(sys.argv[1:])")
    file = tmp_path / "rows"
    argv = [f"--give=--score={file}", "--", sys.executable, str(script), "a"]
    assert run_beside(*argv).stdout == "['a']\n"
    file.touch()
    assert run_beside(*argv).stdout == f"['--score={file}', 'a']\n"


def test_nothing_is_run_without_the_file_it_is_for(tmp_path: Path) -> None:
    done = run_beside(
        f"--if={tmp_path / 'none'}", "--", sys.executable, "-c", "raise SystemExit(7)"
    )
    assert (done.returncode, done.stdout) == (0, "{}\n")
