"""Run llama.cpp's programs from a stage: find them, follow them, say why one failed.

A program ends with the stage that started it, even when that is killed (Linux). What it prints
goes to the stage's stdout where a worker keeps that as a log, and nowhere by hand.
"""

import codecs
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from corral import settings
from corral.datasets.llama_process import end_with_parent
from corral.errors import DiskFullError, ToolError

READ_BYTES = 65_536
# llama.cpp's log prefix: `0.04.059.684 I `.
LOG_PREFIX = re.compile(r"^\d+\.\d\d\.\d\d\d\.\d\d\d [A-Z] ")
SAYS_WHY = re.compile(r"error|failed|cannot|unable|invalid|exception|disabled|missing", re.I)
REPORTED_LINES = 3

OnText = Callable[[str], None]


class LlamaToolError(ToolError):
    """A llama.cpp program failed; `output` is all it printed."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class LlamaTools:
    """The programs in one folder. `log`: print what they print on stdout."""

    def __init__(self, folder: Path | None = None, *, log: bool = False) -> None:
        self.folder = folder or settings.load().llama_bin_dir
        self._log = log

    def path(self, program: str) -> Path:
        """Where the program is; ToolError when it is not built."""
        path = self.folder / program
        if not path.is_file():
            raise ToolError(f"{path} is missing; build llama.cpp with make build")
        return path

    def argv(self, program: str, *arguments: object) -> list[str]:
        """The command line of a program."""
        return [str(self.path(program)), *(str(argument) for argument in arguments)]

    def run(self, argv: Sequence[str], on_text: OnText | None = None) -> str:
        """Run to the end; what it printed, stdout and stderr as they came.

        `on_text` is called with all of it so far whenever there is more; what it raises ends the
        program. LlamaToolError has the lines that say why, when the status is not 0.
        """
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        try:
            text = self._follow(child, on_text)
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
        if child.returncode:
            why = reason(text, child.returncode)
            raise LlamaToolError(f"{Path(argv[0]).name} failed: {why}", text)
        return text

    def _follow(self, child: subprocess.Popen[bytes], on_text: OnText | None) -> str:
        assert child.stdout is not None
        decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
        with child.stdout as output:
            while data := os.read(output.fileno(), READ_BYTES):
                more = decoder.decode(data)
                text += more
                if self._log:
                    print(more, end="", flush=True)
                if on_text is not None:
                    on_text(text)
        return text


def reason(text: str, status: int) -> str:
    """The lines of a program's output that say why it failed, at most three; else its status."""
    lines = [LOG_PREFIX.sub("", line).strip() for line in text.splitlines()]
    said = list(dict.fromkeys(line for line in lines if SAYS_WHY.search(line)))
    if said:
        return "; ".join(said[-REPORTED_LINES:])
    last = next((line for line in reversed(lines) if line), "it printed nothing")
    return f"it ended with status {status} and said last: {last}"


def printed(argv: Sequence[str]) -> str:
    """A command line as a person would type it."""
    return shlex.join(argv)


def make_room(folder: Path, needed: int, what: str) -> None:
    """Make the folder; DiskFullError with the bytes unless `needed` are free there."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{what} needs {needed:,} bytes in {folder}, {free:,} are free; free "
            f"{needed - free:,} more or choose another place",
            param=str(folder),
        )
