"""Question-answer pairs about the passages of a folder, written by a teacher model."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from corral.datasets import formats
from corral.datasets.findings import Place
from corral.datasets.rows import Message, Row
from corral.datasets.sources import tasks
from corral.datasets.sources.acceptance import Accepted, json_value, marks, without_fence
from corral.datasets.sources.asking import Asks, Outcome, Steps, ask
from corral.datasets.sources.folder import Passage
from corral.datasets.sources.generate import Options, Summary
from corral.datasets.sources.journal import Journal
from corral.datasets.sources.teacher import Reply
from corral.datasets.strict_json import BadJSON, encode

Pair = tuple[str, str]
Todo = tuple[str, Passage]


def pairs_of(text: str) -> list[Pair]:
    """The pairs in a teacher's JSON. Raises ValueError that says what is wrong with it."""
    try:
        value = json_value(without_fence(text))
    except BadJSON as bad:
        raise ValueError(f"the pairs are not JSON: {bad.message}") from None
    if not isinstance(value, list) or not value:
        raise ValueError("the pairs are no JSON list with at least one pair")
    pairs = []
    for item in value:
        pair = item if isinstance(item, dict) else {}
        question, answer = pair.get("question"), pair.get("answer")
        if not (isinstance(question, str) and isinstance(answer, str)):
            raise ValueError('a pair is not {"question": "…", "answer": "…"}')
        if question.strip() and answer.strip():
            pairs.append((question.strip(), answer.strip()))
    return pairs


def check(text: str) -> tuple[str, str | None]:
    """The text, and what keeps it from being pairs."""
    try:
        return text, None if pairs_of(text) else "every question or answer is empty"
    except ValueError as error:
        return text, str(error)


def ask_about(
    passages: list[Passage],
    teacher: Asks,
    count: int,
    options: Options,
    journal: Journal,
    place: Place,
    progress: Callable[[int], object] = lambda rows: None,
) -> Summary:
    """A row for each pair: the question, the answer, nothing of the passage."""
    accepted, rejected = Accepted(), Counter[str]()
    done = {step["step"] for step in journal.past}
    for past in journal.past:
        rejected.update([past["why"]] if "why" in past else [])
        for found in past.get("marks", ()):
            accepted.know_answer(found)
    progress(journal.rows)
    steps = Steps(options.parallel)

    def ask_one(entry: Todo) -> Outcome:
        inputs = {"passage": entry[1].text, "count": str(count)}

        def request(mistake: str, seed: int) -> Reply:
            return teacher.ask(tasks.QUESTIONS, inputs, seed)

        return ask(entry[0], request, attempts=options.attempts, seed=options.seed, check=check)

    named = [(_step(passage), passage) for passage in passages]
    todo = [entry for entry in named if entry[0] not in done]
    for (step, passage), outcome in steps.run(todo, ask_one):
        rows, found = _rows(outcome, accepted, options.to, place)
        line: dict[str, Any] = {"step": step, "passage": passage.metadata, "marks": found}
        line["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        if outcome.why:
            rejected[outcome.why] += 1
            where = f"{passage.metadata['source']}, chunk {passage.metadata['chunk']}"
            place.note("", outcome.why, f"{where}: {outcome.detail or 'no new pair'}")
        journal.add(rows, line | outcome.provenance(teacher.endpoint))
        progress(len(rows))
    budget = teacher.budget
    return Summary(
        journal.rows, budget.requests, budget.tokens, dict(rejected), steps.stopped, steps.left
    )


def _step(passage: Passage) -> str:
    """A name for a passage that changes when its text does."""
    mark = blake2b(passage.text.encode(), digest_size=8).hexdigest()
    return f"{passage.metadata['source']} {passage.metadata['chunk']} {mark}"


def _rows(
    outcome: Outcome, accepted: Accepted, to: str, place: Place
) -> tuple[list[bytes], list[list[str]]]:
    rows: list[bytes] = []
    kept: list[list[str]] = []
    for question, answer in [] if outcome.why else pairs_of(outcome.text):
        found = marks(question, answer)
        outcome.why = accepted.answer(found)
        if outcome.why is None:
            turns = (Message("user", question), Message("assistant", answer))
            value = formats.get(to).write(Row("chat", messages=turns), place)
            rows += [encode(value)] if value else []
            kept.append(found)
    # One pair that is kept makes the step good, whatever became of the others.
    outcome.why = None if rows else outcome.why
    return rows, kept
