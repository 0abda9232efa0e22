"""The plain attention of training.py in bf16 throughout.

Under autocast both products run in bf16 already, with float32 copies made between them: scores, mask
and probabilities are the largest activations of a step. Softmax still sums in float32 inside.
"""

from typing import Any

import torch
from transformers import AttentionInterface

from training import plain_attention

BF16_ATTENTION = "corral_plain_bf16"


def bf16_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: object,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Shapes as in `plain_attention`."""
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = (tensor.to(torch.bfloat16) for tensor in (query, key, value))
        return plain_attention(module, query, key, value, mask, scaling, **options)


AttentionInterface.register(BF16_ATTENTION, bf16_attention)
