"""Rows that say nearly the same, by MinHash over runs of four words.

datasketch does this too; on 170-word rows it took 202 µs a row against 35 µs for the numpy below,
keeps its index in dicts (gigabytes for a million rows) and brings scipy. Here a row leaves 128
bytes, and pairs are found by sorting bands of its signature.
"""

import re
from array import array
from typing import cast
from zlib import crc32

import numpy as np

from corral.datasets.findings import Place
from corral.datasets.rows import Row, answers, question

_HASHES = 64
# Bands of 7 among 63 hashes: rows alike in 85% of their word runs meet in a band with a chance of
# 97%, rows alike in 50% with 7%; those that meet are then compared by the whole signature.
_BANDS, _BAND = 9, 7
_MIX = np.uint64(1000003)
_WORD = re.compile(r"\w+")
Signature = np.ndarray[tuple[int], np.dtype[np.uint16]]

_random = np.random.default_rng(20240917)
_FACTORS = _random.integers(1, 2**63, _HASHES, dtype=np.uint64) | np.uint64(1)
_OFFSETS = _random.integers(0, 2**63, _HASHES, dtype=np.uint64)


def signature(text: str) -> Signature:
    """The MinHash of a text's four-word runs, ignoring case and punctuation."""
    words = _WORD.findall(text.lower())
    hashes = np.fromiter((crc32(word.encode()) for word in words), np.uint64, len(words))
    if len(hashes) > 3:
        hashes = ((hashes[:-3] * _MIX + hashes[1:-2]) * _MIX + hashes[2:-1]) * _MIX + hashes[3:]
    if not len(hashes):
        return cast(Signature, np.zeros(_HASHES, np.uint16))
    smallest = (hashes[:, None] * _FACTORS + _OFFSETS >> np.uint64(32)).min(0)
    return cast(Signature, (smallest * _MIX >> np.uint64(8)).astype(np.uint16))


class NearDuplicates:
    """Collects signatures over one or more files, then reports pairs alike to `threshold`."""

    def __init__(self, threshold: float = 0.85) -> None:
        self.threshold = threshold
        self._signatures = array("H")
        self._lines: list[tuple[int, int]] = []
        self._exact: list[int] = []
        self._files: list[Place] = []

    def start_file(self, place: Place) -> None:
        """The rows added from here on are of this file."""
        self._files.append(place)

    def add(self, row: Row, line: int, exact: int) -> None:
        """One good row. `exact` is its fingerprint: equal ones are duplicates, not reported here."""
        text = "\n".join((question(row), *answers(row)))
        self._signatures.frombytes(signature(text).tobytes())
        self._lines.append((len(self._files) - 1, line))
        self._exact.append(exact)

    def report(self) -> None:
        """A warning at each later row of a pair."""
        if len(self._lines) < 2:
            return
        table = np.frombuffer(self._signatures, np.uint16).reshape(-1, _HASHES)
        best: dict[int, tuple[float, int]] = {}
        for band in range(_BANDS):
            self._find_in_band(table, band, best)
        for later, (alike, first) in sorted(best.items()):
            place, line = self._where(later)
            other, other_line = self._where(first)
            place.move(line)
            where = f"line {other_line}" if other is place else f"{other.file}:{other_line}"
            code = "near_duplicate" if other is place else "near_leak"
            place.warning("", code, f"nearly the same as {where} ({alike:.0%} alike)")

    def _find_in_band(
        self,
        table: "np.ndarray[tuple[int, int], np.dtype[np.uint16]]",
        band: int,
        best: dict[int, tuple[float, int]],
    ) -> None:
        part = np.ascontiguousarray(table[:, band * _BAND : (band + 1) * _BAND])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * _BAND))).ravel()
        _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(group, kind="stable")
        start = 0
        for size in sizes.tolist():
            if size > 1:
                self._compare(table, order[start : start + size].tolist(), best)
            start += size

    def _compare(
        self,
        table: "np.ndarray[tuple[int, int], np.dtype[np.uint16]]",
        members: list[int],
        best: dict[int, tuple[float, int]],
    ) -> None:
        first = members[0]
        for later in members[1:]:
            alike = float(np.count_nonzero(table[first] == table[later])) / _HASHES
            different = self._exact[first] != self._exact[later]
            if different and alike >= self.threshold and alike > best.get(later, (0.0, 0))[0]:
                best[later] = (alike, first)

    def _where(self, index: int) -> tuple[Place, int]:
        file, line = self._lines[index]
        return self._files[file], line
