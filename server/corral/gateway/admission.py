"""Who may use an instance now, and who waits: one bounded line per section, in fair turns.

llama-server works on slots together only where they have the same adapters: a request for another
one waits inside it until every slot of the first has ended, and as long as the first is asked for
again in time, for ever. So requests of one adapter are let in together, for a turn of bounded
length; then the slots run empty and the adapter that has waited longest has its turn. Among the
requests of one adapter API keys take turns, and in a full line the key with most requests makes room.

A request of a better rank goes first, also before another adapter's turn has ended; `waiting` says
how nobody starves. Not covered: an answer under way is never interrupted, so a long one delays all
others to its end.

One event loop's; whatever holds no `await` is one step to everybody else.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from corral.errors import RateLimited
from corral.gateway.slots import Slot, Slots
from corral.gateway.waiting import RANKS, Waiting

# How long an adapter may let new requests in while another waits. Every change of turns costs the time in
# which the slots run empty; a longer turn costs the others their first token (docs/log.md).
TURN_SECONDS = 0.5
# Of the last answers' duration, for Retry-After: how much one more of them counts.
NEW_SHARE = 0.1


# Not frozen: one is made for each request, and each field would be set by a call.
@dataclass(slots=True)
class Seat:
    """What a request needs: a slot of `section`, which has `slots`, for `model`, asked by `key`. `rank`
    is an index of RANKS. `head`: how its prompt begins, where the slot is to be chosen here."""

    section: str
    slots: int
    model: str
    key: str
    rank: int = RANKS.index("normal")
    head: bytes = b""


class Line:
    """The requests of one section."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._slots = 1
        self._running = 0
        self._model = ""
        self._turn_began = 0.0
        self._waiting = Waiting()
        self._seconds = 1.0

    @property
    def running(self) -> tuple[str, int]:
        """Whose turn it is, and how many run."""
        return self._model, self._running

    def waiting(self) -> dict[str, int]:
        """How many wait, by model."""
        return self._waiting.by_model()

    @property
    def idle(self) -> bool:
        """Whether nobody runs or waits."""
        return not self._running and not self._waiting

    def join(self, seat: Seat) -> asyncio.Future[None] | None:
        """None when `seat` is given at once; else what tells that it is. Raises RateLimited."""
        self._slots = seat.slots
        if not self._waiting and self._may_run(seat.model):
            self._start(seat.model)
            return None
        if len(self._waiting) >= self._size:
            self._make_room(seat)
        told = asyncio.get_running_loop().create_future()
        self._waiting.add(seat.model, seat.key, seat.rank, told, self._clock())
        self._admit()
        return told

    def leave(self, seconds: float) -> None:
        """A request that ran has ended after so long."""
        self._seconds += NEW_SHARE * (seconds - self._seconds)
        self._running -= 1
        self._admit()

    def give_up(self, seat: Seat, told: asyncio.Future[None]) -> None:
        """A request that waits goes away, perhaps in the moment in which it was let in."""
        if told.done():
            # Sent away meanwhile, it has neither a slot nor a place.
            self._running -= told.exception() is None
        else:
            self._waiting.drop(seat.model, seat.key, told)
        self._admit()

    def _make_room(self, seat: Seat) -> None:
        """Send somebody away for `seat`. Raises RateLimited for it where nobody has to go."""
        full = self._full(seat)
        told = self._waiting.make_room(seat.key, seat.rank)
        if told is None:
            raise full
        told.set_exception(full)

    def _may_run(self, model: str) -> bool:
        if not self._running:
            return True
        return self._running < self._slots and model == self._model

    def _start(self, model: str) -> None:
        if not self._running and model != self._model:
            self._model, self._turn_began = model, self._clock()
        self._running += 1

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting and (not self._running or self._running < self._slots):
            rank = waiting.best(self._clock())
            over = self._clock() - self._turn_began >= TURN_SECONDS
            if not self._running:
                self._next_turn(rank, over=over)
            # The slots run empty for another adapter: of a better rank, or in its turn.
            elif not waiting.has(rank, self._model) or (over and waiting.others(rank, self._model)):
                return
            self._running += 1
            waiting.take(rank, self._model).set_result(None)

    def _next_turn(self, rank: int, *, over: bool) -> None:
        """The slots are empty: whose turn it is now."""
        if over or not self._waiting.has(rank, self._model):
            self._model = self._waiting.first(rank, after=self._model if over else None)
            self._turn_began = self._clock()

    def _full(self, seat: Seat) -> RateLimited:
        seconds = max(1, math.ceil(self._seconds * len(self._waiting) / seat.slots))
        return RateLimited(
            f"{len(self._waiting)} requests wait for `{seat.section}`, as many as may (setting `queue_size`);"
            f" try again in {seconds} s",
            code="queue_full",
            headers={
                "Retry-After": str(seconds),
                "x-ratelimit-limit-requests": str(self._size + seat.slots),
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": f"{seconds}s",
            },
        )


class Admission:
    """Every section's line. `size` is how many may wait in each."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._lines: dict[str, Line] = {}
        self._slots = Slots()

    def running(self) -> dict[str, int]:
        """How many run now, by model."""
        return dict(line.running for line in self._lines.values())

    def busy(self) -> dict[str, int]:
        """How many run now, by section."""
        return {section: line.running[1] for section, line in self._lines.items()}

    def waiting(self) -> dict[str, int]:
        """How many wait now, by model."""
        waiting: Counter[str] = Counter()
        for line in self._lines.values():
            waiting.update(line.waiting())
        return waiting

    def seat(self, seat: Seat) -> "Place":
        """Inside its block the request may run; waits for it. The slot to ask for, None: any. Raises
        RateLimited at once where too many wait."""
        if seat.section not in self._lines:
            self._lines[seat.section] = Line(self._size, self._clock)
        return Place(seat, self._lines, self._slots, self._clock)


class Place:
    """One request in its line, then at work. No generator: that would cost each request ten frames more."""

    def __init__(
        self, seat: Seat, lines: dict[str, Line], slots: Slots, clock: Callable[[], float]
    ) -> None:
        self._seat, self._lines, self._slots, self._clock = seat, lines, slots, clock
        self._line = lines[seat.section]

    async def __aenter__(self) -> int | None:
        try:
            await self._wait()
        except BaseException:
            self._forget()
            raise
        seat = self._seat
        self._began = self._clock()
        self._slot: Slot | None = None
        if seat.head:
            self._slot = self._slots.take(seat.section, seat.slots, seat.model, seat.head)
        return None if self._slot is None else self._slot.number

    async def __aexit__(self, *_: object) -> None:
        if self._slot is not None:
            self._slots.free(self._slot)
        self._line.leave(self._clock() - self._began)
        self._forget()

    async def _wait(self) -> None:
        told = self._line.join(self._seat)
        if told is None:
            return
        try:
            # Shielded: only this line ends what it has told.
            await asyncio.shield(told)
        except asyncio.CancelledError:
            self._line.give_up(self._seat, told)
            raise

    def _forget(self) -> None:
        if self._line.idle:
            self._lines.pop(self._seat.section, None)
