"""Run a stage beside serving: at low priority, and not before there is memory for it.

    python -m corral.finetune.beside [--if FILE] [--model GGUF …] -- PROGRAM ARGUMENTS… --events FILE

Becomes PROGRAM, so signals and exit status are its own. With --if nothing is run where FILE is missing.
With --give=FLAG=FILE that flag is given to PROGRAM where FILE is there. With --model it waits until a training over that model fits into
what is free, and says so; what could not fit into an idle machine either is refused.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from corral import settings as settings_module
from corral.errors import CorralError, ToolError
from corral.finetune.memory import Need, Training, gigabytes, longest_row, need_of, place_for
from corral.finetune.stage_events import Events
from corral.machine import Memory

# A third of the processor beside one busy program, all of it beside none.
NICE = 5
POLL_SECONDS = 5.0
# Lines about waiting are no closer than this.
TELL_SECONDS = 300.0


def main() -> None:
    """Wait as long as it takes, then become the program behind `--`."""
    cut = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--if", type=Path, dest="file")
    parser.add_argument("--give", default="", metavar="FLAG=FILE")
    parser.add_argument("--model", type=Path, help="wait for the memory that training it takes")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rows", type=Path, help="rendered rows; the longest counts")
    parser.add_argument("--full", action="store_true", help="every weight, by llama-finetune")
    args, program = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    events = Events(Path(program[-1]) if program[-2:-1] == ["--events"] else None)
    if args.file and not args.file.is_file():
        events.result({})
        return
    if args.give and Path(args.give.partition("=")[2]).is_file():
        program.insert(2, args.give)  # behind Python and the script
    step_back()
    try:
        if args.model:
            wait_for_room(need_of(args.model, training_of(args)), args.device, events)
    except CorralError as error:
        events.fail(error)
    os.execv(program[0], program)


def training_of(args: argparse.Namespace) -> Training:
    """What the options say of the training's memory."""
    cpu = place_for(args.device, settings_module.load().llama_bin_dir).name == "RAM"
    longest = longest_row(args.rows)
    return Training(args.tokens, args.rank, longest, args.precision, cpu, args.full)


def step_back() -> None:
    """Let serving go first whenever both want the processor."""
    os.nice(NICE)
    # Linux may share the processor among sessions first: then a niceness inside this one is not enough.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICE))


def wait_for_room(need: Need, device: str, events: Events) -> None:
    """Return when the training fits; say which and why."""
    bin_dir = settings_module.load().llama_bin_dir
    told = 0.0
    while True:
        place = place_for(device, bin_dir)
        if need.least > place.total:
            raise _too_large(need, place)
        if need.least <= place.free:
            events.message(_fits(need, place))
            return
        if time.monotonic() - told > TELL_SECONDS or not told:
            events.message(
                f"training waits: it needs about {gigabytes(need.least)} at least, and only "
                f"{gigabytes(place.free)} of {gigabytes(place.total)} {place.name} are free beside what is "
                "served; it begins when there is room",
                "warning",
            )
            told = time.monotonic()
        time.sleep(POLL_SECONDS)


def _fits(need: Need, place: Memory) -> str:
    where = f"{gigabytes(place.free)} of {gigabytes(place.total)} {place.name} are free"
    if need.usual <= place.free:
        return f"training runs beside serving: it needs about {gigabytes(need.usual)}, {where}"
    return (
        f"training runs beside serving with gradient checkpointing: it needs about {gigabytes(need.least)} so "
        f"({gigabytes(need.usual)} without), {where}"
    )


def _too_large(need: Need, place: Memory) -> ToolError:
    return ToolError(
        f"this training needs about {gigabytes(need.least)} at least, more than the {gigabytes(place.total)} "
        f"{place.name} of this machine; lower `corral.micro_tokens` or `corral.rank`, choose a smaller model, "
        'or set `corral.memory` to "ignore" to try all the same',
        code="out_of_memory",
        param="model",
    )


if __name__ == "__main__":
    main()
