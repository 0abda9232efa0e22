"""Who waits for the slots of one section, and who of them is next. Pure; the clock is the caller's.

A request waits in one of three ranks, high, normal and low, and the best one in which somebody waits goes
first. In a rank adapters take turns, and among the requests of one adapter API keys do. Whoever has
waited AGED_SECONDS counts one rank higher: after twice that time everybody is among the high ones, and
then only turns hold them up, as if there were no priorities.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import get_args

from corral.caller import Priority

RANKS: tuple[Priority, ...] = get_args(Priority)
# A slot's mean time under load is under a second here and minutes for long answers of large models: long
# enough that somebody who types does not meet a night's batch, short beside the SDKs' ten minutes.
AGED_SECONDS = 15.0

Told = asyncio.Future[None]


@dataclass(eq=False, slots=True)
class Place:
    """One request that waits: in this rank since then."""

    model: str
    key: str
    rank: int
    since: float
    told: Told
    here: bool = True


# Models in the order in which they get their turn, and in each the keys likewise.
Board = OrderedDict[str, OrderedDict[str, deque[Place]]]


class Waiting:
    """The requests that wait."""

    def __init__(self) -> None:
        self._boards: tuple[Board, ...] = tuple(OrderedDict() for _ in RANKS)
        # In the order of coming; who has gone is struck when it is first.
        self._ageing: tuple[deque[Place], ...] = tuple(deque() for _ in RANKS)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def by_model(self) -> dict[str, int]:
        """How many wait, by model."""
        found = Counter[str]()
        for board in self._boards:
            for model, keys in board.items():
                found[model] += sum(map(len, keys.values()))
        return dict(found)

    def add(self, model: str, key: str, rank: int, told: Told, now: float) -> None:
        """One more; `told` is kept for whoever takes it."""
        self._put(Place(model, key, rank, now, told))
        self._count += 1

    def drop(self, model: str, key: str, told: Told) -> None:
        """It goes away by itself."""
        for board in self._boards:
            lines = board.get(model)
            for place in (lines and lines.get(key)) or ():
                if place.told is told:
                    self._take(place)
                    return

    def best(self, now: float) -> int:
        """The best rank in which somebody waits now; StopIteration where nobody does."""
        self._age(now)
        return next(rank for rank, board in enumerate(self._boards) if board)

    def has(self, rank: int, model: str) -> bool:
        """Whether somebody waits for `model` in that rank."""
        return model in self._boards[rank]

    def others(self, rank: int, model: str) -> bool:
        """Whether somebody waits for another model in that rank."""
        board = self._boards[rank]
        return len(board) > (model in board)

    def first(self, rank: int, after: str | None = None) -> str:
        """The model whose turn it is in that rank; `after` has had its turn."""
        board = self._boards[rank]
        if after is not None and after in board:
            board.move_to_end(after)
        return next(iter(board))

    def take(self, rank: int, model: str) -> Told:
        """The next of `model` in that rank; it waits no longer."""
        keys = self._boards[rank][model]
        key, line = next(iter(keys.items()))
        keys.move_to_end(key)
        place = line[0]
        self._take(place)
        return place.told

    def make_room(self, key: str, rank: int) -> Told | None:
        """Who leaves a full line for one of `key` in `rank`: the last of a lower rank, unless it is its
        key's only one, which else might never come; or the last of a key that has two more than
        `key`, since who asks most would have the line to itself. None: nobody."""
        held = Counter[str]()
        for board in self._boards:
            for keys in board.values():
                held.update({each: len(line) for each, line in keys.items()})
        for worst in reversed(range(len(RANKS))):
            here = [each for keys in self._boards[worst].values() for each in keys]
            greedy = max(here, key=held.__getitem__, default=None)
            if greedy is not None and held[greedy] > (1 if worst > rank else held[key] + 1):
                place = self._last(worst, greedy)
                self._take(place)
                return place.told
        return None

    def _last(self, rank: int, key: str) -> Place:
        lines = (keys[key] for keys in self._boards[rank].values() if key in keys)
        return max(lines, key=len)[-1]

    def _age(self, now: float) -> None:
        for rank, line in enumerate(self._ageing):
            while rank and line and (not line[0].here or now - line[0].since >= AGED_SECONDS):
                place = line.popleft()
                if place.here:
                    self._strike(place)
                    place.rank, place.since = rank - 1, place.since + AGED_SECONDS
                    self._put(place)

    def _put(self, place: Place) -> None:
        keys = self._boards[place.rank].setdefault(place.model, OrderedDict())
        keys.setdefault(place.key, deque()).append(place)
        if place.rank:
            self._ageing[place.rank].append(place)

    def _take(self, place: Place) -> None:
        self._strike(place)
        place.here = False
        self._count -= 1

    def _strike(self, place: Place) -> None:
        board = self._boards[place.rank]
        keys = board[place.model]
        keys[place.key].remove(place)
        if not keys[place.key]:
            del keys[place.key]
        if not keys:
            del board[place.model]
