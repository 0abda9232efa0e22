"""Read damaged GGUF headers, and hold what the reader promises of each."""

import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from corral.errors import InvalidModel
from corral.registry.gguf_header import Header, read_header

MOST_SECONDS = 1.0
MOST_BYTES = 64 * 1024 * 1024
# A message is for a person: what a damaged file holds must not flood it.
MOST_MESSAGE = 2_000


def ordeal(mutants: Iterable[tuple[bytes, int]], path: Path) -> Counter[str]:
    """Write each mutant to `path` and read it: a header or InvalidModel, in less than a second of
    processor time and 64 MiB of memory. How many were read and how many refused."""
    outcomes: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for number, (header, size) in enumerate(mutants):
            _written(path, header, size)
            outcomes[_one(path, number)] += 1
    finally:
        tracemalloc.stop()
    return outcomes


def _one(path: Path, number: int) -> str:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    began = time.process_time()
    try:
        outcome = read_header(path, details=number % 2 == 1)
        assert isinstance(outcome, Header)
        said = "read"
    except InvalidModel as error:
        said = "refused" if len(error.message) < MOST_MESSAGE else "refused in too many words"
    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    assert seconds < MOST_SECONDS, f"mutant {number} took {seconds:.2f} s"
    assert peak - before < MOST_BYTES, f"mutant {number} took {peak - before:,} bytes"
    return said


def _written(path: Path, header: bytes, size: int) -> None:
    path.write_bytes(header)
    os.truncate(path, max(size, len(header)))
