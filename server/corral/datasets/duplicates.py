"""Rows that say the same: exact duplicates, other answers to one question, leaks between files.

Each row leaves three 64-bit hashes and its place, 32 bytes, whatever its length; they are sorted
at the end. Among a million rows, two different ones share a hash with a chance of 3 in 10^8. The
hashes are Python's own, the fastest there is and good for one process; `fingerprint` is for good.
"""

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from corral.datasets.findings import Place
from corral.datasets.rows import PlainTurns, Row, answers, question, text_of

# Fewer equal answers than this are no pattern: short answers, like yes and no, repeat by nature.
_REPEATED_ANSWER_ROWS = 10
_REPEATED_ANSWER_SHARE = 0.05
_LINE_BITS = 40


class Fingerprint(NamedTuple):
    """Hashes of a row: all of it, its question (0: it has none), its last answer."""

    row: int
    question: int
    answer: int


def fingerprint(row: Row) -> Fingerprint:
    """The hashes of a row; the same in every process and every release."""
    asked = question(row)
    told = answers(row)
    last = told[-1] if told else ""
    system = (
        text_of(row.messages[0].content)
        if row.messages and row.messages[0].role == "system"
        else ""
    )
    state = blake2b(asked.encode(), digest_size=8)
    question_hash = int.from_bytes(state.digest()) if asked else 0
    state.update("\x1f".join(("", system, *told)).encode())
    answer = int.from_bytes(blake2b(last.encode(), digest_size=8).digest())
    return Fingerprint(int.from_bytes(state.digest()), question_hash, answer)


def marks(row: Row) -> Fingerprint:
    """Like `fingerprint`, but five times as fast, and only of use within this process."""
    turns = row.messages
    if type(turns) is PlainTurns and len(turns) < 4 and turns[-1].role == "assistant":
        # The commonest chat, without the loops: (system,) user, assistant.
        before = tuple([turn.content for turn in turns[:-1]])
        answer = turns[-1].content
        asked = before[-1] if before else ""
        return Fingerprint(hash((before, answer)), hash(asked) if asked else 0, hash(answer))
    asked = question(row)
    told = tuple(answers(row))
    system = text_of(turns[0].content) if turns and turns[0].role == "system" else ""
    before = (system, asked) if system else (asked,)
    row_mark = hash((before, told[0] if len(told) == 1 else told))
    return Fingerprint(row_mark, hash(asked) if asked else 0, hash(told[-1] if told else ""))


class Duplicates:
    """Collects fingerprints over one or more files, then reports."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._questions = array("q")
        self._answers = array("q")
        self._places = array("Q")
        self._files: list[Place] = []

    def start_file(self, place: Place) -> None:
        """The rows added from here on are of this file."""
        self._files.append(place)

    def add(self, mark: Fingerprint, line: int) -> None:
        """One good row."""
        self._rows.append(mark.row)
        self._questions.append(mark.question)
        self._answers.append(mark.answer)
        self._places.append((len(self._files) - 1) << _LINE_BITS | line)

    def report(self) -> None:
        """Findings for all that was added, each at the later of the two rows."""
        rows = np.frombuffer(self._rows, np.int64)
        questions = np.frombuffer(self._questions, np.int64)
        for first, later in _same(rows):
            self._report_pair(first, later, exact=True)
        for first, later in _same(questions):
            if questions[first] and rows[first] != rows[later]:
                self._report_pair(first, later, exact=False)
        self._report_answers()

    def _report_pair(self, first: int, later: int, exact: bool) -> None:
        place, line, other = *self._where(later), self._where(first)
        place.move(line)
        if place is not other[0]:
            say, where = (place.error if exact else place.warning), f"{other[0].file}:{other[1]}"
            what = "the same row" if exact else "the same question"
            say("", "leak", f"{what} as {where}; a row in two splits makes evaluation lie")
        elif exact:
            place.warning("", "duplicate_row", f"the same row as line {other[1]}")
        else:
            place.warning(
                "", "other_answer", f"the same question as line {other[1]}, another answer"
            )

    def _where(self, index: int) -> tuple[Place, int]:
        packed = self._places[index]
        return self._files[packed >> _LINE_BITS], packed & ((1 << _LINE_BITS) - 1)

    def _report_answers(self) -> None:
        found = np.frombuffer(self._answers, np.int64)
        _, first, counts = np.unique(found, return_index=True, return_counts=True)
        limit = max(_REPEATED_ANSWER_ROWS, int(_REPEATED_ANSWER_SHARE * len(found)))
        for index, count in zip(
            first[counts >= limit].tolist(), counts[counts >= limit].tolist(), strict=True
        ):
            place, line = self._where(index)
            place.move(line)
            share = count / len(found)
            place.warning(
                "", "repeated_answer", f"{count} rows ({share:.0%}) have this very answer"
            )


def _same(hashes: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Iterator[tuple[int, int]]:
    """Pairs (first, later) of equal values, in order of the later one."""
    if len(hashes) < 2:
        return
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    equal = np.concatenate(([False], ranked[1:] == ranked[:-1]))
    starts = np.maximum.accumulate(np.where(equal, 0, np.arange(len(order))))
    later, first = order[equal], order[starts[equal]]
    by_line = np.argsort(later, kind="stable")
    yield from zip(first[by_line].tolist(), later[by_line].tolist(), strict=True)
