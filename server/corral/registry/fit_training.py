"""How much memory training a model takes: an estimate by published formulas, pure.

P is the model's parameters, A the adapter's, s the tokens of a row, b the rows at once, h the hidden
size, L the layers, V the vocabulary.

- full: 16 bytes x P: weights and gradients in 16 bits (2 + 2), and Adam in 32 bits (a master copy of
  the weights, momentum, variance: 12). Rajbhandari and others, "ZeRO: Memory Optimizations Toward
  Training Trillion Parameter Models" (2020), section 3.1.
- LoRA: 2 bytes x P for the frozen weights, 16 bytes x A for the adapter, where a matrix of m x n
  gets rank x (m + n) parameters. Hu and others, "LoRA: Low-Rank Adaptation" (2021), section 4.1.
- QLoRA: as LoRA, but the layers' matrices in 4-bit NormalFloat with doubly quantised constants,
  4.127 bits each; embeddings and norms stay in 16 bits. Dettmers and others, "QLoRA" (2023), section 3.
- activations: 34 x s x b x h bytes for each layer, attention scores not kept (flash attention), and
  8 x s x b x V for the logits and their gradient in 32 bits. With gradient checkpointing
  2 x s x b x h for each layer and one layer in full. Korthikanti and others, "Reducing Activation
  Recomputation in Large Transformer Models" (2022), section 4.1 and 5.

Not counted: the framework itself (about 1 GB with CUDA), fragmentation. Not measured against a run.
"""

from dataclasses import dataclass

from corral.registry.fit import Shape

ADAM_BYTES = 12
HALF = 2
NF4_BITS = 4.127
RANK = 16


@dataclass(frozen=True)
class Training:
    """Bytes for one way to train; `activations` without checkpointing, `checkpointed` with."""

    method: str
    weights: int
    gradients: int
    optimiser: int
    activations: int
    checkpointed: int
    trained: int

    @property
    def total(self) -> int:
        """All of it without gradient checkpointing."""
        return self.weights + self.gradients + self.optimiser + self.activations

    @property
    def total_checkpointed(self) -> int:
        """All of it with gradient checkpointing."""
        return self.total - self.activations + self.checkpointed


def activation_bytes(shape: Shape, tokens: int, *, checkpointed: bool) -> int:
    """For one row of `tokens`; the formula is in the module's docstring."""
    row = tokens * shape.hidden
    logits = 8 * tokens * shape.vocabulary
    if checkpointed:
        return (2 * shape.layers + 34) * row + logits
    return 34 * shape.layers * row + logits


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Of a LoRA on every matrix of every layer."""
    return sum(
        rank * (t.shape[0] + t.shape[1]) for t in shape.tensors if _is_matrix(t.name, t.shape)
    )


def _is_matrix(name: str, extents: tuple[int, ...]) -> bool:
    return name.startswith("blk.") and len(extents) == 2 and min(extents) > 1


def training(shape: Shape, tokens: int, rank: int = RANK) -> tuple[Training, ...]:
    """Full, LoRA and QLoRA with rows of `tokens`, one at a time."""
    whole, adapter = shape.parameters, adapter_parameters(shape, rank)
    matrices = sum(t.elements for t in shape.tensors if _is_matrix(t.name, t.shape))
    four_bit = int(matrices * NF4_BITS / 8) + HALF * (whole - matrices)
    kept = activation_bytes(shape, tokens, checkpointed=False)
    fewer = activation_bytes(shape, tokens, checkpointed=True)

    def one(method: str, frozen: int, trained: int) -> Training:
        weights = frozen + HALF * trained
        return Training(method, weights, HALF * trained, ADAM_BYTES * trained, kept, fewer, trained)

    return (
        one("full", 0, whole),
        one("lora", HALF * whole, adapter),
        one("qlora", four_bit, adapter),
    )
