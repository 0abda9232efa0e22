"""A bar over bytes, on stderr, where a person watches."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Less than this is read in well under two seconds.
WORTH_A_BAR = 512 * 1024 * 1024


@contextmanager
def byte_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with each number of bytes done."""
    if total < WORTH_A_BAR or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        *Progress.get_default_columns()[:2],
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
