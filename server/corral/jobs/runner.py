"""Run a plan in a job's folder, stage by stage, each in a child that leaves nothing behind.

    <folder>/spec.json             what was asked for
             out/                  what the stages make; manifests here are registered at the end
             logs/<stage>.log      what a stage and its tools print
             done/<n>-<stage>.json the result of a finished stage: it is not run again
             work/                 what stages keep for each other, and to go on after a kill
             tmp/                  TMPDIR of the stage that runs

After the last stage, `register` adds every `out/*.manifest.json` to the registry, in a child as well,
so that it can be cancelled like the others. A stage that is run again finds what it has left in
out/. Blocking; one thread.
"""

import contextlib
import enum
import fcntl
import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import BaseModel

from corral.errors import BadRequest, CorralError, GateError, ToolError
from corral.jobs import stage_log
from corral.jobs.events import Event, EventPipe, Failure, Message, Progress, Result
from corral.jobs.keeper import CANNOT_START, OWNER_LOST, sweep
from corral.jobs.kinds import Kind, Stage
from corral.jobs.process import Kept
from corral.log import trim
from corral.registry.blobs import AtStep
from corral.registry.disk import ignore, write_whole
from corral.registry.manifest import SUFFIX
from corral.settings import Settings, corral_environment, stage_environment

# From SIGTERM to SIGKILL. A pause has longer, for a checkpoint, but less than the lease lasts.
GRACE_SECONDS = 3.0
PAUSE_SECONDS = 9.0
# How often the control is asked whether to go on. With the grace above: a cancel takes under 5 s.
ASK_SECONDS = 1.0
POLL_SECONDS = 0.1
# Not CORRAL_…: such a name would have to be a setting.
MARK = "_CORRAL_JOB"
REGISTER = "register"
NEEDED_WHILE_OPEN = ("out", "tmp", "done", "work")
FOREGROUND = "now_"
ERRORS: Mapping[int, tuple[type[CorralError], str]] = {
    2: (BadRequest, "invalid_request"),
    3: (GateError, "gate_refused"),
}


class Order(enum.Enum):
    """What the control wants of a running stage."""

    GO_ON = "go on"
    WAIT = "wait"  # go on for now: whether the lease holds is not known
    CANCEL = "cancel"
    PAUSE = "pause"
    STOP = "stop"  # the worker ends; another goes on with the job
    LET_GO = "let go"  # the lease is lost: end the stage, write nothing


class Interrupted(Exception):
    """A run ended by an order."""

    def __init__(self, order: Order) -> None:
        super().__init__(order.value)
        self.order = order


class StageKilledError(ToolError):
    """A stage was ended by a signal that did not come from here; trying again may help."""

    default_code = "stage_killed"


class Control(Protocol):
    """Who is told how a run goes, and asked whether it shall go on. An exception ends the run."""

    def started(self, stage: str, number: int, stages: int) -> None:
        """A stage begins."""

    def progress(self, progress: Progress) -> None:
        """So far is it. Often; must be quick."""

    def message(self, message: Message) -> None:
        """A line for a person."""

    def finished(self, stage: str) -> None:
        """A stage has ended well. Called before that is marked in the folder: who has lost the job
        raises here."""

    def order(self) -> Order:
        """Asked every second or so."""


class Runner:
    """Runs one plan. `silence`: the stage is killed when this process stands still for so long.
    `at_step` is called with a step's name right after it; tests kill the process there."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        control: Control,
        silence: float = 0,
        at_step: AtStep = ignore,
    ) -> None:
        self._folder, self._settings = folder, settings
        self._control, self._silence = control, silence
        self._at_step = at_step
        self._mark = f"{MARK}={folder.name}"
        self._failure: Failure | None = None

    def run(self, plan: tuple[Stage, ...]) -> dict[str, Any]:
        """All stages, then the registration; `{"registered": [names], "result": the last stage's}`.

        Raises CorralError when a stage fails, StageKilledError when it may be tried again,
        Interrupted when the control said so, and what the control raises.
        """
        sweep(self._mark)  # what an attempt before this one may have left, its keeper included
        result: dict[str, Any] = {}
        stages = len(plan) + 1
        for number, stage in enumerate(plan, 1):
            result = self._once(stage, number, stages)
        registered: list[str] = []
        if any((self._folder / "out").glob(f"*{SUFFIX}")) or self._is_done(stages, REGISTER):
            done = self._once(register_stage(self._folder / "out"), stages, stages)
            registered = done.get("registered", [])
        return {"registered": registered, "result": result}

    def _once(self, stage: Stage, number: int, stages: int) -> dict[str, Any]:
        marker = self._marker(number, stage.name)
        before = _read_marker(marker)
        if before is not None and before["argv"] == list(stage.argv):
            result: dict[str, Any] = before["result"]
            return result
        self._control.started(stage.name, number, stages)
        self._at_step("stage begun")
        with self._writable():
            result = self._run(stage)
            self._at_step("stage ended")
            self._control.finished(stage.name)
            self._at_step("stage stored")
            _write_marker(marker, {"argv": list(stage.argv), "result": result})
        self._at_step("stage marked")
        return result

    def _is_done(self, number: int, name: str) -> bool:
        return self._marker(number, name).exists()

    def _marker(self, number: int, name: str) -> Path:
        return self._folder / "done" / f"{number}-{name}.json"

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise stage_log.cannot_write(Path(error.filename or self._folder), error) from error

    def _run(self, stage: Stage) -> dict[str, Any]:
        log = self._folder / "logs" / f"{stage.name}.log"
        self._make_folders()
        if log.exists():
            log.replace(log.with_suffix(".log.1"))  # the attempt before
        pipe = EventPipe()
        self._failure = None
        try:
            with log.open("ab") as output:
                kept = self._start(stage, pipe, output)
            result = self._watch(kept, pipe, log)
        finally:
            pipe.close()
            shutil.rmtree(self._folder / "tmp", ignore_errors=True)
        status = kept.child.returncode
        if status != 0:
            raise _failure(stage.name, status, log, self._failure)
        return result

    def _start(self, stage: Stage, pipe: EventPipe, output: IO[bytes]) -> Kept:
        argv = (*stage.argv, "--events", f"/dev/fd/{pipe.write_end}")
        extra = {MARK: self._folder.name, "TMPDIR": str(self._folder / "tmp")}
        if stage.own:
            environment = corral_environment(self._settings) | extra
        else:
            environment = stage_environment(self._settings, extra)
        try:
            return Kept.start(
                argv, environment, output,
                mark=self._mark, silence=self._silence,
                pass_fds=(pipe.write_end,), folder=self._folder,
            )  # fmt: skip
        finally:
            pipe.close_write_end()

    def _watch(self, kept: Kept, pipe: EventPipe, log: Path) -> dict[str, Any]:
        """Follow the stage to its end; its result event, empty when there was none."""
        result: dict[str, Any] = {}
        asked = 0.0
        try:
            while kept.child.poll() is None:
                result = self._hear(pipe.read(POLL_SECONDS), result)
                trim(log, stage_log.LOG_MAX_BYTES)
                if time.monotonic() - asked >= ASK_SECONDS:
                    asked = time.monotonic()
                    self._obey(kept)
            return self._hear(pipe.rest(), result)
        except KeyboardInterrupt:
            kept.stop(GRACE_SECONDS)
            raise
        finally:
            kept.kill()

    def _hear(self, events: Iterator[Event], result: dict[str, Any]) -> dict[str, Any]:
        for event in events:
            if isinstance(event, Result):
                result = event.data
            elif isinstance(event, Failure):
                self._failure = event
            elif isinstance(event, Progress):
                self._control.progress(event)
            else:
                self._control.message(event)
        return result

    def _obey(self, kept: Kept) -> None:
        order = self._control.order()
        if order is Order.GO_ON:
            kept.beat()
        if order in (Order.GO_ON, Order.WAIT):
            return
        if order is not Order.LET_GO:
            kept.stop(PAUSE_SECONDS if order is Order.PAUSE else GRACE_SECONDS)
        raise Interrupted(order)

    def _make_folders(self) -> None:
        shutil.rmtree(self._folder / "tmp", ignore_errors=True)
        for name in ("out", "logs", "done", "work", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)


def register_stage(out: Path) -> Stage:
    """The stage that adds what lies in `out` to the registry."""
    return Stage(REGISTER, (sys.executable, "-m", "corral.jobs.register", str(out)), own=True)


def prepare(folder: Path, kind: str, spec: BaseModel) -> None:
    """Make a job's folder with its spec; a CorralError says why that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"kind": kind, "spec": spec.model_dump(mode="json")}, indent=1)
        write_whole(folder / "spec.json", text.encode())
    except OSError as error:
        raise stage_log.cannot_write(folder, error) from error


def clear(folder: Path, *, keep_logs: bool = True) -> None:
    """Remove what a job that has ended needs no more. Best effort: a job's state does not hang on it."""
    gone = [folder / name for name in NEEDED_WHILE_OPEN] if keep_logs else [folder]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)


def run_now(kind: Kind, spec: BaseModel, settings: Settings, *, bar: bool = True) -> dict[str, Any]:
    """Run a job here and now, without the queue; what `Runner.run` gives. Blocks; Ctrl-C ends it.

    With `bar`, progress and messages go to stderr. When it fails, the error names the log's folder.
    """
    from corral.jobs.bar import Bar  # rich takes 0.1 s to import

    jobs = settings.data_dir / "jobs"
    clear_abandoned(jobs)
    folder = jobs / f"{FOREGROUND}{secrets.token_hex(6)}"
    prepare(folder, kind.name, spec)
    with _locked(folder), Bar(shown=bar) as control:
        try:
            result = Runner(folder, settings, control).run(kind.plan(spec, settings, folder))
        except ToolError:
            clear(folder)  # the log may say more than the error
            raise
        except BaseException:
            clear(folder, keep_logs=False)
            raise
        clear(folder, keep_logs=False)
        return result


def clear_abandoned(jobs: Path) -> None:
    """Remove what foreground runs have left that were killed: nobody holds their locks."""
    for folder in jobs.glob(f"{FOREGROUND}*") if jobs.is_dir() else ():
        if not (folder / "lock").exists():
            continue
        with contextlib.suppress(OSError), (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sweep(f"{MARK}={folder.name}")
            clear(folder, keep_logs=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise stage_log.cannot_write(folder / "lock", error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            (folder / "lock").unlink(missing_ok=True)


def _failure(stage: str, status: int, log: Path, told: Failure | None) -> CorralError:
    kind, code = ERRORS.get(status, (ToolError, "stage_failed"))
    if told is not None and 0 < status <= 128 and status != OWNER_LOST:
        return kind(told.message, code=told.code or code, param=told.param)
    said = stage_log.reason(log)
    if status in ERRORS:
        return kind(said or f"stage {stage} gave no reason; its log is {log}", code=code)
    if status < 0 or status == OWNER_LOST or status > 128:
        number = -status if status < 0 else status - 128
        return StageKilledError(
            f"stage {stage} was killed (signal {number if number > 0 else 'unknown'}); out of "
            f"memory? Its log is {log}" + (f"; its last line: {said}" if said else "")
        )
    if status == CANNOT_START or not said:
        said = said or f"it printed nothing; its log is {log}"
    return ToolError(f"stage {stage} failed: {said}", code="stage_failed")


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _write_marker(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content).encode())
