"""What `corral data folio|folder|generate` share: options, secrets, what they say on the way.

These are the only verbs of `corral data` that may use the network, and only to the address given.
Passwords and keys come from a file, the environment or a prompt, never from the command line,
where every user of the machine could read them.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from corral.errors import BadRequest

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", help="JSONL file; OUT.journal beside it tells how.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run was cut.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")]
To = Annotated[str, typer.Option("--to", help="Format of OUT; corral data formats lists them.")]
Seed = Annotated[int, typer.Option(help="Another seed, another choice; the same seed, the same.")]


def secret(file: Path | None, variable: str) -> str:
    """What is in the file, else in the environment variable; "" for neither."""
    if file is None:
        from corral import settings

        return settings.secret(variable)
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {file}: {error}", param=str(file)) from None


def jsonable(value: Any) -> dict[str, Any]:
    """A summary as JSON has it."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def say(message: str) -> None:
    """A line on stderr."""
    print(f"corral: {message}", file=sys.stderr)
