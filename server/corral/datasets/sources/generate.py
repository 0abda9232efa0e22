"""Rows from a teacher model: answers to prompts, and new prompts grown from them.

Round 0 answers the prompts given. Each further round makes a new prompt from every one of the
round before, deeper or broader by lot, and answers it (the way of Evol-Instruct). Every step is
in the journal: a row's step tells the model, the host, the prompt it came from, the seed, the time.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec

from corral.datasets import formats
from corral.datasets.findings import Place
from corral.datasets.rows import Message, Row
from corral.datasets.selection import draw
from corral.datasets.sources import tasks
from corral.datasets.sources.acceptance import Accepted, Schema, marks
from corral.datasets.sources.asking import Asks, Check, Outcome, Steps, ask
from corral.datasets.sources.journal import Journal
from corral.datasets.sources.prompts import Prompt
from corral.datasets.sources.teacher import Reply
from corral.datasets.strict_json import encode

Todo = tuple[str, Prompt]


class Options(msgspec.Struct, frozen=True):
    """`rounds` of growth after round 0; `samples` answers to each prompt; `broaden` is the share
    of new prompts that are broader, not deeper; `attempts` at each answer; `parallel` requests;
    `plain` sends a prompt's turns as they are, for a teacher trained on such."""

    rounds: int = 0
    samples: int = 1
    broaden: float = 0.2
    attempts: int = 2
    parallel: int = 1
    seed: int = 1
    to: str = "openai"
    plain: bool = False


class Summary(msgspec.Struct):
    """What became of a run. `left` steps were not done because the budget `stopped` it; of the
    rounds after that one, `rounds_left`, nobody knows how many steps they would have."""

    rows: int = 0
    requests: int = 0
    tokens: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    stopped: str | None = None
    left: int = 0
    rounds_left: int = 0


class Generator:
    """One run. `run` may be called once."""

    def __init__(
        self,
        teacher: Asks,
        options: Options,
        journal: Journal,
        place: Place,
        *,
        schema: Schema | None = None,
        progress: Callable[[int], object] = lambda rows: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.teacher = teacher
        self.options = options
        self.journal = journal
        self.place = place
        self.schema = schema
        self.progress = progress
        self.now = now
        self.accepted = Accepted()
        self.rejected: Counter[str] = Counter()
        self.steps = Steps(options.parallel)
        self.done = {step["step"]: step for step in journal.past}

    def run(self, prompts: list[Prompt]) -> Summary:
        """All rounds, or as many as the budget allows."""
        self._remember()
        for prompt in prompts:
            self.accepted.know_prompt(prompt.asked)
        pool = prompts
        for round in range(self.options.rounds + 1):
            if round:
                pool = self._grow(pool)
            if not self.steps.stopped:
                self._answer(pool)
            if self.steps.stopped:
                break
        budget = self.teacher.budget
        return Summary(
            rows=self.journal.rows,
            requests=budget.requests,
            tokens=budget.tokens,
            rejected=dict(self.rejected),
            stopped=self.steps.stopped,
            left=self.steps.left,
            rounds_left=self.options.rounds - round if self.steps.stopped else 0,
        )

    def _remember(self) -> None:
        """What earlier runs wrote, so that it is not written again."""
        self.progress(self.journal.rows)
        for step in self.journal.past:
            if "marks" in step:
                self.accepted.know_answer(step["marks"])
            if "why" in step:
                self.rejected[step["why"]] += 1

    def _answer(self, pool: list[Prompt]) -> None:
        todo = [
            (f"answer {prompt.id} {sample}", prompt)
            for prompt in pool
            for sample in range(self.options.samples)
        ]
        for (step, prompt), outcome in self._run(todo, self._ask_answer):
            found = marks(prompt.asked, outcome.text)
            outcome.why = outcome.why or self.accepted.answer(found)
            value = None if outcome.why else self._written(prompt, outcome)
            extra = {"line": self.journal.rows + 1, "marks": found} if value else {}
            self._record(step, prompt, outcome, [encode(value)] if value else [], extra)

    def _written(self, prompt: Prompt, outcome: Outcome) -> dict[str, Any] | None:
        row = Row("chat", messages=(*prompt.turns, Message("assistant", outcome.text)))
        value = formats.get(self.options.to).write(row, self.place)
        if value is None:
            outcome.why = "lost_in_format"
        return value

    def _grow(self, pool: list[Prompt]) -> list[Prompt]:
        """A new prompt from each; where none came, that line of prompts ends."""
        todo = [(f"grow {prompt.id}", prompt) for prompt in pool]
        grown = [
            child
            for step, prompt in todo
            if (child := self._child(prompt, self.done.get(step, {}).get("prompt")))
        ]
        for child in grown:
            self.accepted.know_prompt(child.asked)
        for (step, prompt), outcome in self._run(todo, self._ask_growth):
            new = None if outcome.why else self._child(prompt, outcome.text)
            if new:
                outcome.why = self.accepted.prompt(new.asked, prompt.asked)
            kept = new if not outcome.why else None
            change = self._change(prompt).name
            text = kept.request if kept else None
            self._record(step, prompt, outcome, [], {"change": change, "prompt": text})
            grown += [kept] if kept else []
        return grown

    def _run(self, todo: list[Todo], step: Callable[[Todo], Outcome]) -> Any:
        return self.steps.run([entry for entry in todo if entry[0] not in self.done], step)

    def _ask_answer(self, entry: Todo) -> Outcome:
        step, prompt = entry
        schema, teacher = self.schema, self.teacher

        def request(mistake: str, seed: int) -> Reply:
            if self.options.plain:
                return teacher.chat(prompt.turns, seed, schema.value if schema else None)
            given = {"rules": prompt.rules, "request": prompt.asked}
            given |= {"json_schema": schema.text if schema else "", "mistake": mistake}
            task = tasks.answer(
                rules=bool(prompt.rules), schema=schema is not None, mistake=bool(mistake)
            )
            return teacher.ask(task, {name: given[name] for name in task.inputs}, seed)

        return self._asked(step, request, schema.check if schema else _as_it_is)

    def _ask_growth(self, entry: Todo) -> Outcome:
        step, prompt = entry
        inputs = {"request": prompt.request, "change": self._change(prompt).text}

        def request(mistake: str, seed: int) -> Reply:
            return self.teacher.ask(tasks.EVOLVE, inputs, seed)

        return self._asked(step, request, _as_it_is)

    def _asked(self, step: str, request: Callable[[str, int], Reply], check: Check) -> Outcome:
        options = self.options
        return ask(step, request, attempts=options.attempts, seed=options.seed, check=check)

    def _record(
        self, step: str, prompt: Prompt, outcome: Outcome, rows: list[bytes], extra: dict[str, Any]
    ) -> None:
        """The step's journal line: its row's provenance, or why there is none."""
        line = {
            "step": step,
            "prompt_id": prompt.id,
            "parent": prompt.parent,
            "round": prompt.round,
            "time": self.now().isoformat(timespec="seconds"),
            **outcome.provenance(self.teacher.endpoint),
            **extra,
        }
        if outcome.why:
            self.rejected[outcome.why] += 1
            self.place.note("", outcome.why, f"{step}: {outcome.detail or 'not kept'}")
        self.journal.add(rows, line)
        self.progress(len(rows))

    def _change(self, prompt: Prompt) -> tasks.Change:
        """Which change a prompt gets: by lot, the same in every run."""
        lot = Random(draw(f"change {prompt.id}".encode(), self.options.seed))
        return lot.choice(tasks.BROADEN if lot.random() < self.options.broaden else tasks.DEEPEN)

    def _child(self, prompt: Prompt, request: str | None) -> Prompt | None:
        if not request:
            return None
        return prompt.changed(request, f"{prompt.id}.{prompt.round + 1}", self._change(prompt).name)


def _as_it_is(text: str) -> tuple[str, str | None]:
    return text, None
