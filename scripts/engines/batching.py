"""Which rows each step trains on: a plan that the seed alone decides, so a resumed run sees the same.

A step is made of random rows: with rows of like length in a step, the loss on held-out rows ended a
tenth higher (docs/log.md, 2026-11-30). Inside a step rows of like length share a micro-batch, so that
little is padding; the result does not depend on that cut.
"""

import math
from random import Random

import numpy as np

from engines.hyperparameters import Hyperparameters

# A micro-batch more costs about as much time as this share of a full one: then padding is cheaper.
_PART_COST = 1 / 16
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
    assert hyper.micro_tokens is not None
    order = Random(f"{hyper.seed}/{epoch}").sample(range(len(lengths)), len(lengths))
    if hyper.batch_size is not None:
        size = hyper.batch_size
        batches = [order[at : at + size] for at in range(0, len(order), size)]
    else:
        batches = _by_sum(order, lengths, hyper.batch_tokens)
    return [
        tuple(np.array(part) for part in cut(batch, lengths, hyper.micro_tokens))
        for batch in batches
    ]


def _by_sum(order: list[int], lengths: np.ndarray, most: int) -> list[list[int]]:
    """Cut in order into steps of at most `most` tokens, at least one row in each."""
    steps, held, total = list[list[int]](), list[int](), 0
    for index in order:
        if held and total + int(lengths[index]) > most:
            steps.append(held)
            held, total = [], 0
        held.append(index)
        total += int(lengths[index])
    return [*steps, held] if held else steps


def cut(rows: list[int], lengths: np.ndarray, most: int) -> list[list[int]]:
    """The rows in the micro-batches that take least time: of at most `most` tokens, padding included (a
    longer row stands alone), by length, the longest first, so that memory is at its peak at once."""
    rows = sorted(rows, key=lambda index: -lengths[index])
    # best[n]: least cost of the first n rows, and where the last micro-batch of them begins.
    best = [(0.0, 0)]
    for end in range(1, len(rows) + 1):
        choices = []
        for begin in range(end - 1, -1, -1):
            tokens = int(lengths[rows[begin]]) * (end - begin)
            if tokens > most and end - begin > 1:
                break
            choices.append((best[begin][0] + tokens + _PART_COST * most, begin))
        best.append(min(choices))
    parts, end = list[list[int]](), len(rows)
    while end:
        begin = best[end][1]
        parts.append(rows[begin:end])
        end = begin
    return parts[::-1]


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
