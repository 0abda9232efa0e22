"""A stage that misbehaves on request: a real process, driven by its arguments, one action after another.

    stage_program.py [ACTION[=VALUE]]… [--events FILE]

touch=F append=F (a line, to count runs) wait=F (until F is there) sleep=S print=TEXT error=TEXT exit=N
progress=DONE/TOTAL message=TEXT result=JSON flood=BYTES (stdout) flood-events=N raw=TEXT (to events)
ignore-term fork=F escape=F (a child that ignores SIGTERM; its pid to F; `escape` in a session of its
own) kill (itself, -9) full (write to a full disk) model=FOLDER/NAME (a GGUF and its manifest) env=F
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

SLEEPER = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "open(sys.argv[1] + '.part', 'w').write(str(os.getpid()))\n"
    "os.rename(sys.argv[1] + '.part', sys.argv[1])\n"
    "time.sleep(600)\n"
)


def main() -> None:
    """Run the actions of the command line."""
    arguments = sys.argv[1:]
    events: IO[str] | None = None
    if "--events" in arguments:
        events = open(arguments[-1], "a", encoding="utf-8")  # noqa: SIM115
        arguments = arguments[:-2]
    for argument in arguments:
        name, _, value = argument.partition("=")
        ACTIONS[name](value, events)


def emit(events: IO[str] | None, **event: object) -> None:
    """One event."""
    if events is not None:
        events.write(json.dumps(event) + "\n")
        events.flush()


def wait(value: str) -> None:
    """Until the file is there."""
    while not Path(value).exists():
        time.sleep(0.01)


def progress(value: str, events: IO[str] | None) -> None:
    """`3/10`."""
    done, _, total = value.partition("/")
    emit(events, type="progress", done=float(done), total=float(total), unit="steps", text="x")


def sleeper(value: str, own_session: bool) -> None:
    """A child that does not end by itself."""
    subprocess.Popen([sys.executable, "-c", SLEEPER, value], start_new_session=own_session)
    wait(value)


def raw(value: str, events: IO[str] | None) -> None:
    """A line that is no event."""
    if events is not None:
        events.write(value + "\n")
        events.flush()


def fail(text: str, code: int = 1) -> None:
    """As stages do."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(code)


def model(value: str) -> None:
    """A whole small model with its manifest, as a stage would leave it."""
    # Here, because most tests do without and a stage should start quickly.
    from corral.registry import manifest
    from corral.registry.manifest import Manifest, ManifestFile
    from tests.fakes.gguf_file import write_model

    path = Path(value)
    write_model(path.with_suffix(".gguf"))
    made = Manifest(name=path.name, files=(ManifestFile(name=f"{path.name}.gguf"),))
    manifest.write(made, path.parent)


def flood_events(value: str, events: IO[str] | None) -> None:
    """Many messages, and many more reports of progress."""
    for number in range(int(value)):
        emit(events, type="message", text=f"line {number}")
        emit(events, type="progress", done=number, total=None, unit="lines", text="")


def append(value: str) -> None:
    """A line to a file."""
    with open(value, "a", encoding="utf-8") as file:
        file.write("x\n")


def full() -> None:
    """What a stage says on a full disk."""
    try:
        with open("/dev/full", "w", encoding="utf-8") as file:
            file.write("x" * 100)
    except OSError as error:
        fail(f"no space left to write model.gguf: {error.strerror}")


Action = Callable[[str, "IO[str] | None"], object]
ACTIONS: dict[str, Action] = {
    "touch": lambda value, _: Path(value).touch(),
    "append": lambda value, _: append(value),
    "wait": lambda value, _: wait(value),
    "sleep": lambda value, _: time.sleep(float(value)),
    "print": lambda value, _: print(value, flush=True),
    "error": lambda value, _: print(f"error: {value}", file=sys.stderr, flush=True),
    "exit": lambda value, _: sys.exit(int(value)),
    "progress": progress,
    "message": lambda value, events: emit(events, type="message", level="info", text=value),
    "result": lambda value, events: emit(events, type="result", data=json.loads(value)),
    "flood": lambda value, _: sys.stdout.write("flood\n" * (int(value) // 6)),
    "flood-events": flood_events,
    "raw": raw,
    "ignore-term": lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "fork": lambda value, _: sleeper(value, False),
    "escape": lambda value, _: sleeper(value, True),
    "kill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "full": lambda *_: full(),
    "model": lambda value, _: model(value),
    "env": lambda value, _: Path(value).write_text(json.dumps(dict(os.environ)), encoding="utf-8"),
}

if __name__ == "__main__":
    main()
