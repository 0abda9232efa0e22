"""Token counts of a dataset, and what they mean for a training run."""

from array import array
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

_BINS = 20


class Counts(msgspec.Struct):
    """Tokens of a dataset. `lengths` is a histogram: (from, up to, rows)."""

    rows: int
    tokens: int
    trained_tokens: int
    longest: int
    longest_line: int
    mean: float
    median: int
    p95: int
    lengths: list[tuple[int, int, int]]
    over_context: int = 0
    context: int | None = None
    # Rows that were counted, when only a sample was; the totals are then scaled up to all rows.
    sampled: int | None = None


class Sizes:
    """Collects (line, tokens, trained tokens) of rows; 24 bytes each."""

    def __init__(self) -> None:
        self._lines = array("q")
        self._tokens = array("q")
        self._trained = array("q")

    def add(self, line: int, tokens: int, trained: int) -> None:
        """One row."""
        self._lines.append(line)
        self._tokens.append(tokens)
        self._trained.append(trained)

    def counts(self, context: int | None = None, all_rows: int | None = None) -> Counts:
        """The figures; with `all_rows` above the rows added, these are a sample of so many."""
        tokens = np.array(self._tokens or [0], np.int64)
        scale = all_rows / len(self._tokens) if all_rows and self._tokens else 1.0
        longest = int(tokens.argmax())
        rows, edges = np.histogram(
            tokens, bins=min(_BINS, max(1, int(tokens.max() - tokens.min())))
        )
        return Counts(
            rows=all_rows or len(self._tokens),
            tokens=round(int(tokens.sum()) * scale),
            trained_tokens=round(sum(self._trained) * scale),
            longest=int(tokens[longest]),
            longest_line=self._lines[longest] if self._lines else 0,
            mean=float(tokens.mean()),
            median=int(np.median(tokens)),
            p95=int(np.percentile(tokens, 95)),
            lengths=[
                (int(np.ceil(low)), int(high), int(n))
                for low, high, n in zip(edges[:-1], edges[1:], rows, strict=True)
            ],
            over_context=int((tokens > context).sum() * scale) if context else 0,
            context=context,
            sampled=len(self._tokens) if scale != 1.0 else None,
        )


def suggested_epochs(rows: int) -> int:
    """OpenAI's rule: 3, more for few rows and fewer for many, so that the model sees between 100
    and 25,000 rows; 1 to 25."""
    if rows * 3 < 100:
        return min(25, -(-100 // max(rows, 1)))
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3


class ModelFacts(NamedTuple):
    """What an estimate needs to know of a model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    context: int


def model_facts(model: Path) -> ModelFacts:
    """Read them from a GGUF's header; the weights are not read."""
    from gguf import GGUFReader

    reader = GGUFReader(model)

    def number(suffix: str) -> int:
        for name, field in reader.fields.items():
            if name.endswith(suffix) and name.count(".") == suffix.count("."):
                return int(field.contents())
        return 0

    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    embedding = shapes.get("token_embd.weight")
    return ModelFacts(
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        layers=number(".block_count"),
        hidden=number(".embedding_length"),
        vocabulary=int(embedding[-1]) if embedding is not None else 0,
        context=number(".context_length"),
    )


class Estimate(NamedTuple):
    """A rough cost of LoRA training in float32: right within a factor of two or three."""

    epochs: int
    seconds: float
    bytes: int


# Of what a matrix product reaches, training reaches about this share (attention, norms, Adam, Python).
_EFFICIENCY = 0.4
# One forward pass and the backward pass through frozen weights: 2 + 2 operations a parameter.
_LORA_OPERATIONS = 4
# Bytes kept for the backward pass: per token, layer and hidden unit (34 in half precision), doubled.
_ACTIVATION_BYTES = 68


def estimate(
    facts: ModelFacts, counts: Counts, operations_per_second: float, rows_per_step: int = 8
) -> Estimate:
    """Time and peak memory of LoRA on a machine that multiplies matrices at this speed."""
    epochs = suggested_epochs(counts.rows)
    seconds = (
        epochs
        * counts.tokens
        * facts.parameters
        * _LORA_OPERATIONS
        / (operations_per_second * _EFFICIENCY)
    )
    step_tokens = rows_per_step * min(counts.p95, counts.context or counts.p95)
    activations = step_tokens * facts.layers * facts.hidden * _ACTIVATION_BYTES
    # The logits, their gradient and the softmax between them.
    logits = step_tokens * facts.vocabulary * 4 * 3
    return Estimate(epochs, seconds, 4 * facts.parameters + activations + logits)


def measured_speed() -> float:
    """Operations per second of this machine's float32 matrix product; takes about 0.1 s."""
    from time import perf_counter

    side = 768
    matrix: Any = np.ones((side, side), np.float32)
    matrix @ matrix
    best = min(_seconds(matrix, perf_counter) for _ in range(5))
    return 2 * side**3 / best


def _seconds(matrix: Any, clock: Any) -> float:
    begin = clock()
    matrix @ matrix
    return float(clock() - begin)
