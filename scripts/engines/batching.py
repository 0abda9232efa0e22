"""Which rows each step trains on: a plan that the seed alone decides, so a resumed run sees the same.

Rows of like length share a step, so that almost nothing of a batch is padding; steps come in random
order. A step is cut into micro-batches that fit in memory; the result does not depend on the cut.
"""

import math
from random import Random

import numpy as np

from engines.hyperparameters import Hyperparameters

_BUCKET = 16  # lengths this close count as equal, so that the order within is random
Step = tuple[np.ndarray, ...]  # micro-batches, each an array of row numbers


def plan(lengths: np.ndarray, hyper: Hyperparameters) -> tuple[list[Step], list[int]]:
    """All steps of a run, and after how many steps each epoch ends. `hyper` is resolved."""
    assert hyper.epochs is not None
    steps, ends = list[Step](), list[int]()
    for epoch in range(math.ceil(hyper.epochs)):
        steps += _epoch(lengths, hyper, epoch)
        ends.append(len(steps))
    steps = steps[: max(1, round(len(steps) * hyper.epochs / len(ends)))]
    return steps, sorted({min(end, len(steps)) for end in ends})


def _epoch(lengths: np.ndarray, hyper: Hyperparameters, epoch: int) -> list[Step]:
    rng = Random(f"{hyper.seed}/{epoch}")
    order = sorted(
        rng.sample(range(len(lengths)), len(lengths)), key=lambda i: lengths[i] // _BUCKET
    )
    if hyper.batch_size is not None:
        size = hyper.batch_size
        batches = [order[at : at + size] for at in range(0, len(order), size)]
    else:
        batches = by_tokens(order, lengths, hyper.batch_tokens)
    rng.shuffle(batches)
    return [
        tuple(np.array(part) for part in by_tokens(batch, lengths, hyper.micro_tokens))
        for batch in batches
    ]


def by_tokens(order: list[int], lengths: np.ndarray, most: int) -> list[list[int]]:
    """Cut in order into parts of at most `most` tokens, padding included; a longer row stands alone."""
    parts, held, longest = list[list[int]](), list[int](), 0
    for index in order:
        longest = max(longest, int(lengths[index]))
        if held and longest * (len(held) + 1) > most:
            parts.append(held)
            held, longest = [], int(lengths[index])
        held.append(index)
    if held:
        parts.append(held)
    return parts


def rate_share(step: int, total: int, hyper: Hyperparameters) -> float:
    """What share of the peak rate step `step` (from 0) learns at: warm-up, then the schedule."""
    warmup = hyper.warmup if hyper.warmup is not None else min(20, max(1, total // 10))
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if hyper.schedule == "constant":
        return rise
    if hyper.schedule == "linear":
        return rise * (total - step) / total
    return rise * max(0.02, (1 + math.cos(math.pi * step / total)) / 2)


def valid_every(total: int, hyper: Hyperparameters) -> int:
    """Steps between two looks at the validation rows: ten times in a run, unless told."""
    return hyper.valid_every or max(1, total // 10)
