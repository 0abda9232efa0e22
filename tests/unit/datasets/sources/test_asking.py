"""Steps, attempts, budgets: without a network, with a teacher that answers from a list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.datasets.findings import Findings
from corral.datasets.sources import tasks
from corral.datasets.sources.asking import Outcome, Steps, ask
from corral.datasets.sources.budget import Budget, Spent
from corral.datasets.sources.prompts import read_prompts
from corral.datasets.sources.questions import check, pairs_of
from corral.datasets.sources.tasks import Task
from corral.datasets.sources.teacher import Endpoint, Garbled, Reply, endpoint
from corral.errors import BadRequest, InvalidData

TASK = Task("Do.", {"request": "r"}, ("answer", "a"))


class ListedTeacher:
    """Answers with the texts given, raises the exceptions given."""

    def __init__(self, *answers: str | Exception, budget: Budget | None = None) -> None:
        self.endpoint = Endpoint("m", "http://h/v1")
        self.budget = budget or Budget()
        self.answers: Iterator[str | Exception] = iter(answers)
        self.seeds: list[int] = []
        self.tasks: list[Task] = []

    def ask(self, task: Task, inputs: dict[str, str], seed: int) -> Reply:
        self.budget.take_request()
        self.seeds.append(seed)
        self.tasks.append(task)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, "m-served", 7)


def run(teacher: ListedTeacher, attempts: int = 3, **options: Any) -> Outcome:
    def request(mistake: str, seed: int) -> Reply:
        return teacher.ask(TASK, {"request": mistake}, seed)

    return ask("s", request, attempts=attempts, seed=1, **options)


def short(text: str) -> tuple[str, str | None]:
    return text.upper(), None if len(text) < 3 else "too long"


def test_a_good_answer_ends_it() -> None:
    outcome = run(ListedTeacher("ok"), check=short)
    assert (outcome.text, outcome.why, outcome.attempts, outcome.tokens) == ("OK", None, 1, 7)
    assert outcome.model == "m-served"


def test_wrong_answers_are_asked_for_again_with_another_seed() -> None:
    teacher = ListedTeacher(Garbled("no fields"), "long", "ok")
    outcome = run(teacher, check=short)
    assert (outcome.text, outcome.attempts, outcome.tokens) == ("OK", 3, 14)
    assert len(set(teacher.seeds)) == 3


def test_the_last_failure_is_told() -> None:
    outcome = run(ListedTeacher("long", "long"), attempts=2, check=short)
    assert (outcome.why, outcome.detail) == ("schema", "too long")
    outcome = run(ListedTeacher(Garbled("x", 5)), attempts=1)
    assert (outcome.why, outcome.tokens) == ("garbled", 5)


def test_the_mistake_is_told_to_the_teacher() -> None:
    told = []
    teacher = ListedTeacher("long", "ok")

    def request(mistake: str, seed: int) -> Reply:
        told.append(mistake)
        return teacher.ask(TASK, {}, seed)

    ask("s", request, attempts=2, seed=1, check=short)
    assert told == ["", "too long"]


def test_a_spent_budget_ends_the_step() -> None:
    outcome = run(ListedTeacher("long", budget=Budget(max_requests=1)), check=short)
    assert outcome.spent == "--max-requests"


@pytest.mark.parametrize("parallel", [1, 3])
def test_steps_come_in_order_and_stop_when_the_budget_does(parallel: int) -> None:
    steps = Steps(parallel)

    def step(number: int) -> Outcome:
        return Outcome(text=str(number), spent="--max-tokens" if number >= 10 else None)

    done = [entry for entry, _ in steps.run(list(range(100)), step)]
    assert done == list(range(10))
    assert (steps.stopped, steps.left) == ("--max-tokens", 90)


def test_budgets() -> None:
    budget = Budget(max_requests=2, max_tokens=10)
    budget.take_request()
    budget.add_tokens(10)
    with pytest.raises(Spent, match="--max-tokens"):
        budget.take_request()
    assert (budget.requests, budget.tokens) == (1, 10)
    free = Budget()
    for _ in range(1000):
        free.take_request()
        free.add_tokens(10**6)


def test_endpoints() -> None:
    found = endpoint("http://h:1/v1/", "openai/org/Name:1", api_key="sk-secret")
    assert (found.model, found.base_url, found.host) == ("org/Name:1", "http://h:1/v1", "h:1")
    assert "sk-secret" not in repr(found) + str(found)
    for url in ("h:1/v1", "ftp://h/", "http://", "http://me:pass@h/v1"):
        with pytest.raises(BadRequest) as caught:
            endpoint(url, "m")
        assert "pass@" not in caught.value.message
    with pytest.raises(BadRequest, match="--model is empty"):
        endpoint("http://h/v1", "openai/")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('[{"question": " q ", "answer": "a"}]', [("q", "a")]),
        (
            '```json\n[{"question": "q", "answer": "a"}, {"question": "", "answer": "x"}]\n```',
            [("q", "a")],
        ),
    ],
)
def test_pairs(text: str, pairs: list[tuple[str, str]]) -> None:
    assert pairs_of(text) == pairs
    assert check(text)[1] is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Q: q A: a", "not JSON"),
        ("[]", "no JSON list with at least one pair"),
        ('{"question": "q", "answer": "a"}', "no JSON list"),
        ('[{"question": "q"}]', "a pair is not"),
        ('["q"]', "a pair is not"),
        ('[{"question": "q", "answer": 1}]', "a pair is not"),
        ('[{"question": "", "answer": ""}]', "every question or answer is empty"),
    ],
)
def test_pairs_that_are_none(text: str, wrong: str) -> None:
    problem = check(text)[1]
    assert problem is not None
    assert wrong in problem


def test_tasks_ask_only_for_what_there_is() -> None:
    assert list(tasks.answer(rules=False, schema=False, mistake=False).inputs) == ["request"]
    full = tasks.answer(rules=True, schema=True, mistake=True)
    assert list(full.inputs) == ["rules", "request", "json_schema", "mistake"]
    assert "JSON" in full.instructions


def test_prompts_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\ufeffone\n\n two \n", encoding="utf-8")
    prompts = read_prompts(path, Findings())
    assert [(prompt.id, prompt.request) for prompt in prompts] == [("p1", "one"), ("p3", "two")]
    path.write_text("\n")
    with pytest.raises(InvalidData, match="has no prompt"):
        read_prompts(path, Findings())


def test_prompts_of_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "A"}, '
        '{"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}, '
        '{"role": "assistant", "content": "D"}]}\n'
        '{"messages": [{"role": "user", "content": "no answer yet"}]}\n'
        '{"messages": [{"role": "assistant", "content": "only"}]}\n'
    )
    findings = Findings()
    first, second = read_prompts(path, findings)
    assert (first.rules, first.request, first.asked) == (
        "S",
        "C",
        "User: A\n\nAssistant: B\n\nUser: C",
    )
    assert second.asked == "no answer yet"
    child = first.changed("C2", "p1.1", "depth")
    assert (child.asked, child.parent, child.round, child.rules) == (
        "User: A\n\nAssistant: B\n\nUser: C2", "p1", 1, "S",
    )  # fmt: skip
    assert [(f.line, f.code) for f in findings.kept if f.code == "no_prompt"] == [(3, "no_prompt")]
