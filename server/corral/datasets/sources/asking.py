"""Steps asked of a teacher: several at once, each tried a few times, until a budget ends."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec

from corral.datasets.rows import Message
from corral.datasets.selection import draw
from corral.datasets.sources.budget import Budget, Spent
from corral.datasets.sources.tasks import Task
from corral.datasets.sources.teacher import Endpoint, Garbled, Reply

T = TypeVar("T")
Check = Callable[[str], tuple[str, str | None]]


class Asks(Protocol):
    """What is needed of a teacher."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def budget(self) -> Budget: ...
    def ask(self, task: Task, inputs: dict[str, str], seed: int) -> Reply: ...
    def chat(self, turns: Sequence[Message], seed: int, schema: Any = None) -> Reply: ...


class Outcome(msgspec.Struct):
    """What came of one step. `why` it gave nothing; `spent` is the budget that ended it."""

    text: str = ""
    why: str | None = None
    detail: str = ""
    model: str = ""
    seed: int = 0
    attempts: int = 0
    tokens: int = 0
    spent: str | None = None

    def provenance(self, endpoint: Endpoint) -> dict[str, Any]:
        """Where its text comes from, for the journal."""
        return {
            "model": self.model or endpoint.model,
            "host": endpoint.host,
            "seed": self.seed,
            "attempts": self.attempts,
            "tokens": self.tokens,
            **({"why": self.why} if self.why else {}),
        }


class Steps:
    """Runs steps on so many threads. After a run `stopped` is the budget that ended it, if one
    did, and `left` how many steps were not done."""

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel
        self.stopped: str | None = None
        self.left = 0

    def run(self, todo: list[T], step: Callable[[T], Outcome]) -> Iterator[tuple[T, Outcome]]:
        """Each entry with its outcome, in order."""
        done = 0
        with ThreadPoolExecutor(self.parallel) as threads:
            for batch in _batches(todo, self.parallel * 2):
                for entry, outcome in zip(batch, threads.map(step, batch), strict=True):
                    if outcome.spent:
                        self.stopped = outcome.spent
                        continue
                    done += 1
                    yield entry, outcome
                if self.stopped:
                    self.left = len(todo) - done
                    return


def ask(
    name: str,
    request: Callable[[str, int], Reply],
    *,
    attempts: int,
    seed: int,
    check: Check = lambda text: (text, None),
) -> Outcome:
    """One step. `request` asks after a mistake ("" at first) with a seed that depends on the step's
    name; `check` gives the text as it is kept and what is wrong with it."""
    outcome = Outcome()
    for attempt in range(1, attempts + 1):
        mistake = outcome.detail
        outcome = Outcome(
            seed=draw(f"{name} {attempt}".encode(), seed) % 2**31,
            attempts=attempt,
            tokens=outcome.tokens,
        )
        _fill(outcome, request, mistake)
        if outcome.spent:
            break
        if outcome.why is None:
            outcome.text, problem = check(outcome.text)
            if problem is None:
                break
            outcome.why, outcome.detail = "schema", problem
    return outcome


def _fill(outcome: Outcome, request: Callable[[str, int], Reply], mistake: str) -> None:
    try:
        reply = request(mistake, outcome.seed)
    except Spent as spent:
        outcome.spent = spent.limit
    except Garbled as garbled:
        outcome.why, outcome.detail = "garbled", str(garbled)
        outcome.tokens += garbled.tokens
    else:
        outcome.text, outcome.model = reply.text, reply.model
        outcome.tokens += reply.tokens


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
