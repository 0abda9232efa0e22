"""Micro-batches of one step beside each other, on a CPU.

The products of a small model are too small for several threads to share: two threads with a micro-batch each
are faster than two threads in every product (docs/log.md, 2026-11-30).
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from corral.registry.trainer_defaults import lanes_on

Part = TypeVar("Part")
Made = TypeVar("Made")


def lanes_for(parameters: int, device: torch.device, dropout: float) -> int:
    """How many micro-batches to compute at once. One with dropout: what it draws must not depend on which thread is first."""
    return 1 if dropout else min(lanes_on(device.type, parameters), torch.get_num_threads())


class Lanes:
    """`count` threads with an equal share of torch's own each."""

    def __init__(self, count: int) -> None:
        share = (max(1, torch.get_num_threads() // count),)
        self._pool = ThreadPoolExecutor(count, "lane", torch.set_num_threads, share)

    def map(self, work: Callable[[Part], Made], parts: Iterable[Part]) -> list[Made]:
        """What `work` makes of each part, in their order. What it raises is raised when all have ended."""
        futures = [self._pool.submit(work, part) for part in parts]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
