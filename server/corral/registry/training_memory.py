"""How much memory Corral's own training takes, fitted to measured peaks; pure.

For each token and layer, float32: what norms, projections and the residual stream keep for the
backward pass (40 bytes x hidden), the feed-forward layer (16 x its width), and on a CPU, for rows of
up to `PLAIN_LENGTH` tokens, the scores of the attention (9 x heads x the longest row; longer rows and
GPUs keep none). In bf16 two fifths of it. The table of peaks, on a CPU, is in docs/log.md, 2026-11-30.
Not measured with CUDA.
"""

from dataclasses import dataclass

from corral.registry.trainer_defaults import TEXT_WINDOW

MIB = 1024**2
# Python, torch and transformers, loaded; with CUDA the driver takes about as much again.
FRAMEWORK = 400 * MIB
# oneDNN's compiled bf16 products (`BF16_MULTIPLE` of scripts/engines/loop.py): 300 MiB after 8 steps, 450
# after 125.
KERNELS = 450 * MIB
BF16_SHARE = 0.4
# With gradient checkpointing, beside every layer's input: one layer computed again, and its gradients.
CHECKPOINTED_LAYERS = 3
# Rows longer than this go through torch's own attention on a CPU as well.
PLAIN_LENGTH = 1536
# Logits computed at once at most, whatever the tokens; in float32 with gradient and softmax.
MOST_LOGITS = 64_000_000
LOGIT_BYTES = 12
# Float32 weights, gradients and both moments.
ADAPTER_BYTES = 16
# llama-finetune: the process; float32 weights, gradients and both moments; the rest of a layer, of which it
# keeps less than torch.
FULL_PROCESS = 40 * MIB
FULL_PARAMETER_BYTES = 16
FULL_SHARE = 0.6


@dataclass(frozen=True)
class Dimensions:
    """What the estimate needs to know of a model."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    vocabulary: int


def layer_bytes(model: Dimensions, tokens: int, scored: int) -> int:
    """What a layer keeps of so many tokens for the backward pass, each with scores for `scored` others."""
    token = 40 * model.hidden + 16 * model.feed_forward + 9 * model.heads * scored
    return token * tokens


def step_bytes(
    model: Dimensions, tokens: int, longest: int, *, bf16: bool, cpu: bool, checkpointed: bool
) -> int:
    """What one micro-batch of `tokens` tokens takes, its longest row having `longest`."""
    layer = layer_bytes(model, tokens, longest if cpu and longest <= PLAIN_LENGTH else 0)
    layer = int(layer * BF16_SHARE) if bf16 else layer
    layers = layer * model.layers
    if checkpointed:
        inputs = 4 * model.hidden * tokens * model.layers
        layers = min(layers, CHECKPOINTED_LAYERS * layer + inputs)
    return layers + LOGIT_BYTES * min(tokens * model.vocabulary, MOST_LOGITS)


def full_bytes(model: Dimensions, parameters: int) -> int:
    """What llama-finetune takes for every weight, in windows of `TEXT_WINDOW` tokens."""
    layer = layer_bytes(model, TEXT_WINDOW, TEXT_WINDOW)
    return FULL_PROCESS + FULL_PARAMETER_BYTES * parameters + int(FULL_SHARE * layer * model.layers)


def fixed_bytes(parameters: int, adapter: int, *, bf16: bool, cpu: bool) -> int:
    """What stays from step to step: the process, the frozen weights, the adapter of so many parameters."""
    weights = (2 if bf16 else 4) * parameters
    return FRAMEWORK + (KERNELS if bf16 and cpu else 0) + weights + ADAPTER_BYTES * adapter
