"""How much memory a model takes to serve: pure arithmetic on a GGUF's header.

llama.cpp's own answer (`fit_tools`) is better where it can be had; this one needs nothing but the
header. Its parts and where they come from:

- weights: the sum of the tensors' bytes.
- KV cache: for each layer, cells x 2 bytes (F16) x key-value heads x (key length + value length).
  Layers of sliding attention keep no more cells than the window and one batch. Where heads share one
  compressed key (`attention.kv_lora_rank`), keys alone are kept.
- compute: the widest point of a batch of 512 tokens (three rows of the feed-forward layer and four
  of the hidden state, F32) and the attention mask (F16).

Not counted: recurrent state (Mamba and the like), image encoders, KV caches in other types.
docs/models.md has the error of each against a real load.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.registry.gguf_header import Header

MIB = 1024**2
GIB = 1024**3
# llama-server's own defaults: tokens computed at once, and the type of the cache.
BATCH = 512
CACHE_BYTES = 2
CELLS_STEP = 256
# What llama-server itself takes beside the model, measured: libraries, threads, HTTP.
PROCESS = 24 * MIB
# Left free: llama.cpp's own margin when it fits a model to a GPU (`--fit-target`).
HEADROOM = 1 * GIB
# Every n-th layer sees the whole context, the others a window, where the file does not say which.
WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4}


@dataclass(frozen=True)
class Need:
    """Bytes that serving takes. `method` says who computed the KV cache and the compute buffers."""

    weights: int
    kv_cache: int
    compute: int
    method: str = "metadata"
    process: int = PROCESS

    @property
    def total(self) -> int:
        """All of it, in one memory."""
        return self.weights + self.kv_cache + self.compute + self.process


@dataclass(frozen=True)
class Place:
    """A memory that a model could be put in. `free` is what nothing else uses now."""

    name: str
    total: int
    free: int
    note: str = ""
    is_gpu: bool = True

    def holds(self, need: int) -> bool:
        """Whether it fits and leaves `HEADROOM`."""
        return need + HEADROOM <= self.free


@dataclass(frozen=True)
class Candidate:
    """The same model in one type, or one file of a repository."""

    type: str
    weights: int
    file: str = ""
    needs_imatrix: bool = False


class Shape:
    """What a header says of the model's shape, with llama.cpp's defaults for what it leaves out."""

    def __init__(self, headers: Sequence[Header]) -> None:
        """`headers`: of every shard, the first one first."""
        self.header = headers[0]
        self.tensors = tuple(tensor for header in headers for tensor in header.tensors)
        self.architecture = self.header.architecture

    @property
    def layers(self) -> int:
        return self.number("block_count") - self.number("nextn_predict_layers")

    @property
    def hidden(self) -> int:
        return self.number("embedding_length")

    @property
    def vocabulary(self) -> int:
        """Tokens; the first array of them, else the embedding's extent."""
        listed = self.header.array_lengths.get("tokenizer.ggml.tokens", 0)
        return listed or self.number("vocab_size")

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    def number(self, key: str, default: int = 0) -> int:
        """A whole number of the architecture's metadata; of an array the largest element."""
        return max(self.per_layer(key, default, length=1))

    def per_layer(self, key: str, default: int = 0, *, length: int = 0) -> list[int]:
        """One number for each layer, from an array or one scalar for all."""
        name = f"{self.architecture}.{key}"
        listed = self.header.arrays.get(name)
        if listed:
            return [int(value) for value in listed]
        value = self.header.metadata.get(name, default)
        one = int(value) if isinstance(value, int | float) else default
        return [one] * (length or self.layers)

    def key_value_rows(self) -> list[int]:
        """For each layer, the numbers kept for one token of context."""
        heads = self.number("attention.head_count", 1) or 1
        usual = self.hidden // heads
        key = self.number("attention.key_length", usual)
        value = self.number("attention.value_length", usual)
        if self.number("attention.kv_lora_rank"):
            value = 0
        return [count * (key + value) for count in self.per_layer("attention.head_count_kv", heads)]

    def windowed(self) -> list[bool]:
        """For each layer, whether it sees a window instead of the whole context."""
        pattern = self.per_layer("attention.sliding_window_pattern")
        period = pattern[0] if len(set(pattern)) == 1 else 0
        if not self.number("attention.sliding_window"):
            return [False] * self.layers
        if period == 0 and any(pattern):
            return [bool(flag) for flag in pattern]
        period = period or WINDOW_PERIODS.get(self.architecture, 1)
        return [(layer + 1) % period != 0 for layer in range(self.layers)]


def cells(context: int) -> int:
    """Tokens that one slot's cache holds: `context`, rounded up as llama.cpp does."""
    return -(-context // CELLS_STEP) * CELLS_STEP


def kv_cache_bytes(shape: Shape, context: int, slots: int) -> int:
    """The KV cache for `slots` conversations of `context` tokens each."""
    whole = cells(context)
    window = cells(shape.number("attention.sliding_window") + BATCH)
    kept = [min(whole, window) if short else whole for short in shape.windowed()]
    rows = zip(shape.key_value_rows(), kept, strict=False)
    return CACHE_BYTES * slots * sum(numbers * tokens for numbers, tokens in rows)


def compute_bytes(shape: Shape, context: int) -> int:
    """The buffers of one batch; an estimate."""
    inner = shape.number("feed_forward_length")
    if shape.number("expert_count"):
        inner = shape.number("expert_feed_forward_length", inner)
        inner *= shape.number("expert_used_count", 1) or 1
    mask = cells(context) * BATCH * 2
    return 4 * BATCH * (3 * inner + 4 * shape.hidden) + mask


def need_of(shape: Shape, context: int, slots: int) -> Need:
    """What serving takes, by metadata alone."""
    kv_cache = kv_cache_bytes(shape, context, slots)
    return Need(shape.weights, kv_cache, compute_bytes(shape, context))


def best(candidates: Iterable[Candidate], need: Need, place: Place) -> Candidate | None:
    """The largest candidate that fits `place` with headroom; None where none does.

    F32 only where there is no other: nothing is gained by it over 16 bits.
    """
    rest = need.total - need.weights
    listed = list(candidates)
    useful = [one for one in listed if one.type != "F32"] or listed
    fitting = [one for one in useful if place.holds(one.weights + rest)]
    return max(fitting, key=lambda one: one.weights, default=None)


def layers_that_fit(shape: Shape, need: Need, place: Place) -> int:
    """How many layers a GPU takes with headroom when it cannot take all (`gpu_layers`)."""
    blocks = sum(t.bytes for t in shape.tensors if t.name.startswith("blk.")) + need.kv_cache
    free = place.free - HEADROOM - need.compute
    if shape.layers <= 0 or blocks <= 0:
        return 0
    return max(0, min(shape.layers, free * shape.layers // blocks))
