"""Stages as real processes, in the foreground: what they may do, and that none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corral.errors import BadRequest, CorralError, GateError, ToolError
from corral.jobs import keeper, runner, stage_log
from corral.jobs.events import Message, Progress
from corral.jobs.kinds import Stage
from corral.jobs.process import Kept
from corral.jobs.runner import Interrupted, Order, Runner, StageKilledError, run_now
from corral.log import trim
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes import jobs
from tests.fakes.served import is_alive, wait_for


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", bundled_models_dir=tmp_path / "none")


def job_folder(tmp_path: Path) -> Path:
    """A name that no other test has, in no process: what carries its mark is killed."""
    return tmp_path / f"job-{os.getpid()}-{tmp_path.name}"


def run(settings: Settings, *stages: tuple[str, ...]) -> dict[str, object]:
    return run_now(jobs.KIND, jobs.ScriptSpec(stages=stages), settings, bar=False)


def folders(settings: Settings) -> list[Path]:
    return sorted((settings.data_dir / "jobs").iterdir())


class Recorder:
    """A control that keeps what it hears, and orders what it was given once `when` is there."""

    def __init__(self, order: Order = Order.GO_ON, when: Path | None = None) -> None:
        self._order, self._when = order, when
        self.heard: list[object] = []

    def started(self, stage: str, number: int, stages: int) -> None:
        self.heard.append((stage, number, stages))

    def finished(self, stage: str) -> None:
        self.heard.append(stage)

    def progress(self, progress: Progress) -> None:
        self.heard.append(progress)

    def message(self, message: Message) -> None:
        self.heard.append(message.text)

    def order(self) -> Order:
        return self._order if self._when is None or self._when.exists() else Order.GO_ON


def plan(folder: Path, *stages: tuple[str, ...]) -> tuple[Stage, ...]:
    spec = jobs.ScriptSpec(stages=stages)
    return jobs.plan(spec, Settings(), folder)


# ---- what a run gives -----------------------------------------------------------------------------


def test_stages_run_in_order_and_the_last_result_is_the_jobs(settings: Settings) -> None:
    done = run(
        settings,
        ("append={folder}/out/order", 'result={"a": 1}'),
        ("append={folder}/out/order", "wait={folder}/out/order", 'result={"b": 2}'),
    )
    assert done == {"registered": [], "result": {"b": 2}}
    assert folders(settings) == []


def test_manifests_are_registered_and_nothing_else_is_left(settings: Settings) -> None:
    done = run(settings, ("model={folder}/out/one",), ("model={folder}/out/two",))
    assert done["registered"] == ["one", "two"]
    registry = Registry(settings)
    assert [artifact.name for artifact in registry.list()] == ["one", "two"]
    assert registry.get("one").weights.read_bytes()[:4] == b"GGUF"
    assert folders(settings) == []


def test_progress_and_messages_come_through_and_rubbish_does_not(
    settings: Settings, tmp_path: Path
) -> None:
    control = Recorder()
    stage = ("progress=1/4", "raw=rubbish", "message=half", "progress=4/4", "print=to the log")
    Runner(job_folder(tmp_path), settings, control).run(plan(job_folder(tmp_path), stage))
    assert control.heard == [
        ("stage-1", 1, 2),
        Progress(done=1, total=4, unit="steps", text="x"),
        "half",
        Progress(done=4, total=4, unit="steps", text="x"),
        "stage-1",
    ]
    assert (job_folder(tmp_path) / "logs/stage-1.log").read_text() == "to the log\n"


def test_a_flood_of_output_and_events_fills_nothing_and_loses_no_result(
    settings: Settings, tmp_path: Path
) -> None:
    control = Recorder()
    flood = (f"flood={3 * 10**7}", "flood-events=3000", f"flood={3 * 10**7}", 'result={"ok": true}')
    done = Runner(job_folder(tmp_path), settings, control).run(plan(job_folder(tmp_path), flood))
    assert done["result"] == {"ok": True}
    assert "line 2999" in control.heard


def test_a_long_log_is_cut(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[int] = []

    def trim_noting(log: Path, max_bytes: int) -> None:
        trim(log, max_bytes)
        cuts.append(log.stat().st_size)

    monkeypatch.setattr(stage_log, "LOG_MAX_BYTES", 1000)
    monkeypatch.setattr(runner, "trim", trim_noting)
    stop = tmp_path / "stop"
    stage = plan(job_folder(tmp_path), ("flood=100000", f"touch={stop}", f"wait={tmp_path / 'go'}"))

    class Waiting(Recorder):
        def order(self) -> Order:
            if stop.exists() and cuts and cuts[-1] <= 1000:
                (tmp_path / "go").touch()
            return Order.GO_ON

    Runner(job_folder(tmp_path), settings, Waiting()).run(stage)
    assert (job_folder(tmp_path) / "logs/stage-1.log").stat().st_size <= 1000


# ---- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "kind", "code", "message"),
    [
        (("error=bad file x", "exit=2"), BadRequest, "invalid_request", "bad file x"),
        (("error=kld 0.9 over 0.1", "exit=3"), GateError, "gate_refused", "kld 0.9 over 0.1"),
        (("error=no luck", "exit=1"), ToolError, "stage_failed", "stage stage-1 failed: no luck"),
        (("print=last words", "exit=7"), ToolError, "stage_failed", "failed: last words"),
        (("exit=7",), ToolError, "stage_failed", "it printed nothing; its log is"),
        (("kill",), StageKilledError, "stage_killed", "killed (signal 9); out of memory?"),
        (("full",), ToolError, "stage_failed", "no space left to write model.gguf"),
    ],
)
def test_a_failed_stage_tells_why(
    settings: Settings, actions: tuple[str, ...], kind: type[CorralError], code: str, message: str
) -> None:
    with pytest.raises(kind) as told:
        run(settings, ("model={folder}/out/half", *actions), ("print=never",))
    assert told.value.code == code
    assert message in told.value.message
    assert Registry(settings).list() == []
    left = [path.name for folder in folders(settings) for path in folder.iterdir()]
    assert set(left) <= {"logs", "spec.json"}


def test_a_stage_may_say_what_failed_for_programs_too(settings: Settings) -> None:
    told = '{"type": "failure", "message": "row 3", "code": "bad_row", "param": "training_file"}'
    with pytest.raises(ToolError) as caught:
        run(settings, (f"raw={told}", "error=row 3", "exit=1"))
    error = caught.value
    assert (error.message, error.code, error.param) == ("row 3", "bad_row", "training_file")


def test_a_program_that_is_not_there_is_told(settings: Settings, tmp_path: Path) -> None:
    stage = Stage("gone", (str(tmp_path / "gone"),))
    with pytest.raises(ToolError, match=r"cannot start .*gone: .*No such file"):
        Runner(job_folder(tmp_path), settings, Recorder()).run((stage,))


def test_an_unwritable_data_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/jobs").write_text("a file, not a folder")
    with pytest.raises(ToolError, match=r"cannot be written: .*; make it writable") as told:
        run(Settings(data_dir=tmp_path / "data"), ())
    assert told.value.code == "not_writable"


def test_a_stage_that_is_done_is_not_run_again_unless_it_would_be_another(
    settings: Settings, tmp_path: Path
) -> None:
    folder, runs = job_folder(tmp_path), tmp_path / "runs"
    first, second = (f"append={runs}", 'result={"n": 1}'), ("kill",)
    with pytest.raises(StageKilledError):
        Runner(folder, settings, Recorder()).run(plan(folder, first, second))
    control = Recorder()
    done = Runner(folder, settings, control).run(plan(folder, first))
    assert (done["result"], control.heard) == ({"n": 1}, [])
    assert runs.read_text() == "x\n"
    Runner(folder, settings, Recorder()).run(plan(folder, (*first, "print=other")))
    assert runs.read_text() == "x\nx\n"


# ---- what a stage gets ---------------------------------------------------------------------------


def test_a_stage_gets_the_settings_a_place_for_temporary_files_and_no_keys(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "CORRAL_API_KEYS",
        "OPENAI_API_KEY",
        "LLAMA_ARG_CTX_SIZE",
        "FOLIO_PASSWORD",
        "HF_TOKEN",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("CORRAL_DATABASE_URL", "x")
    seen = tmp_path / "seen.json"
    run(settings, (f"env={seen}",))
    found = json.loads(seen.read_text())
    assert found["CORRAL_DATA"] == str(settings.data_dir)
    assert found["TMPDIR"].startswith(str(settings.data_dir / "jobs/now_"))
    assert found["HF_TOKEN"] == "x"
    hidden = ("CORRAL_API", "CORRAL_DATABASE", "OPENAI", "LLAMA_ARG", "FOLIO")
    assert [name for name in found if name.startswith(hidden)] == []


# ---- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [Order.CANCEL, Order.STOP, Order.LET_GO])
def test_an_order_ends_a_stage_that_will_not_end_and_its_children(
    settings: Settings, tmp_path: Path, order: Order
) -> None:
    up = tmp_path / "up"
    stage = (
        "ignore-term", f"fork={tmp_path / 'child'}", f"escape={tmp_path / 'escaped'}", f"touch={up}",
        "sleep=600",
    )  # fmt: skip
    began: list[float] = []

    class Timed(Recorder):
        def order(self) -> Order:
            if super().order() is not Order.GO_ON:
                began.append(time.monotonic())
            return super().order()

    with pytest.raises(Interrupted) as told:
        Runner(job_folder(tmp_path), settings, Timed(order, up)).run(
            plan(job_folder(tmp_path), stage)
        )
    assert told.value.order is order
    # The 5 s of the promise are: 1 s until the order is asked for, 3 s of grace, and the end.
    assert time.monotonic() - began[0] < 4
    for name in ("child", "escaped"):
        assert not is_alive(int((tmp_path / name).read_text()))


def test_a_stage_that_ends_when_asked_has_time_to(settings: Settings, tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(600)\n"
    )
    stage = Stage("saving", (sys.executable, "-c", code))
    control = Recorder(Order.STOP, tmp_path / "up")
    with pytest.raises(Interrupted):
        Runner(job_folder(tmp_path), settings, control).run((stage,))
    assert (tmp_path / "saved").exists()


def test_what_a_stage_leaves_running_ends_with_it(settings: Settings, tmp_path: Path) -> None:
    run(settings, (f"fork={tmp_path / 'child'}", f"escape={tmp_path / 'escaped'}"))
    for name in ("child", "escaped"):
        assert not is_alive(int((tmp_path / name).read_text()))


def test_a_killed_foreground_run_leaves_no_process_and_the_next_one_no_file(
    settings: Settings, tmp_path: Path
) -> None:
    names = ("child", "escaped")
    stage = (f"fork={tmp_path / names[0]}", f"escape={tmp_path / names[1]}", "sleep=600")
    process = jobs.start_now(settings, [stage])
    pids = [int(wait_for(lambda n=n: read(tmp_path / n), n)) for n in names]  # type: ignore[misc]
    process.kill()
    process.join()
    wait_for(lambda: not any(map(is_alive, pids)), "the stage and its children end")
    assert len(folders(settings)) == 1
    run(settings, ())
    assert folders(settings) == []


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# ---- the keeper ----------------------------------------------------------------------------------


def keep(tmp_path: Path, *actions: str, silence: float = 0) -> Kept:
    # A mark of its own: what carries another test's is killed when that test ends.
    environment = {**os.environ, "_CORRAL_TEST": str(tmp_path)}
    mark = f"_CORRAL_TEST={tmp_path}"
    with (tmp_path / "log").open("ab") as output:
        return Kept.start(jobs.argv(*actions), environment, output, mark=mark, silence=silence)


@pytest.mark.parametrize(("actions", "status"), [((), 0), (("exit=5",), 5), (("kill",), 128 + 9)])
def test_the_keeper_ends_as_its_program_did(
    tmp_path: Path, actions: tuple[str, ...], status: int
) -> None:
    kept = keep(tmp_path, *actions)
    assert kept.child.wait(20) == status
    kept.kill()


def test_a_killed_keeper_takes_its_program_with_it(tmp_path: Path) -> None:
    """The kernel kills the program; the owner finds the rest by the mark. Linux only."""
    kept = keep(
        tmp_path, f"fork={tmp_path / 'child'}", f"escape={tmp_path / 'escaped'}", "sleep=600"
    )
    pids = [int(wait_for(lambda n=n: read(tmp_path / n), n)) for n in ("child", "escaped")]  # type: ignore[misc]
    kept.child.kill()
    assert kept.child.wait(20) == -signal.SIGKILL
    kept.kill()
    wait_for(lambda: not any(map(is_alive, pids)), "all end")


def test_an_owner_that_stands_still_loses_its_program(tmp_path: Path) -> None:
    kept = keep(tmp_path, f"fork={tmp_path / 'child'}", "sleep=600", silence=1)

    def up() -> str:
        kept.beat()
        return read(tmp_path / "child")

    child = int(wait_for(up, "the child runs"))
    assert kept.child.wait(20) == keeper.OWNER_LOST
    assert not is_alive(child)
    kept.kill()


def test_an_owner_that_beats_keeps_it(tmp_path: Path) -> None:
    kept = keep(tmp_path, f"wait={tmp_path / 'go'}", "exit=4", silence=1.5)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        kept.beat()
        with pytest.raises(subprocess.TimeoutExpired):
            kept.child.wait(0.2)
    (tmp_path / "go").touch()
    assert kept.child.wait(20) == 4
    kept.beat()
    kept.kill()
