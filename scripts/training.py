"""The training step that pretraining and fine-tuning share: batches, attention, loss, checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface

from corral.registry.disk import put_in_place

# Token ids (int16, [rows, longest]) and the weight of each one's loss (float32, same shape; 0: not learned).
Batch = tuple[np.ndarray, np.ndarray]
ATTENTION = "corral_plain"


def pad(rows: list[Batch]) -> Batch:
    """One batch of unpadded rows ([n] each), padded on the right with zeros."""
    longest = max(len(ids) for ids, _ in rows)
    ids: np.ndarray = np.zeros((len(rows), longest), np.int16)
    weights: np.ndarray = np.zeros((len(rows), longest), np.float32)
    for i, (row, weight) in enumerate(rows):
        ids[i, : len(row)], weights[i, : len(row)] = row, weight
    return ids, weights


def plain_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: object,
    scaling: float | None = None,
    **_options: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention by two batched products; rows are padded on the right, so no other mask is needed.

    Shapes [rows, heads, length, width] in, [rows, length, heads, width] out. torch's CPU flash attention took 1.4 to 1.5 times as long for a
    whole training step at these lengths (100 to 1,500 tokens, docs/log.md).
    """
    rows, heads, length, width = query.shape
    groups = heads // key.shape[1]
    key, value = (
        t.repeat_interleave(groups, 1).reshape(rows * heads, length, width) for t in (key, value)
    )
    causal = torch.full((length, length), float("-inf"), dtype=query.dtype).triu(1)
    scores = torch.baddbmm(
        causal,
        query.reshape(rows * heads, length, width) * (scaling or width**-0.5),
        key.transpose(1, 2),
    )
    mixed = torch.bmm(torch.softmax(scores, -1, dtype=query.dtype), value)
    return mixed.view(rows, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, plain_attention)


def loss_of(model: Any, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy over the learned tokens; logits are computed at those positions only."""
    ids = torch.from_numpy(batch[0].astype(np.int64))
    weights = torch.from_numpy(batch[1][:, 1:])
    learned = weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(ids).last_hidden_state[:, :-1][learned]
        logits = model.lm_head(hidden)
    losses = functional.cross_entropy(logits.float(), ids[:, 1:][learned], reduction="none")
    return (losses * weights[learned]).sum() / weights.sum()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves either the old one or the new one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    put_in_place(part, path)
