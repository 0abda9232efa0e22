"""What is minimised: the loss of learned tokens, and direct preference optimisation over them.

Logits are computed at learned positions only: of a chat that is often under half of them, and logits
are the largest tensor of a step. DPO: Rafailov et al. 2023, arXiv:2305.18290.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from token_rows import TokenRows

# More logits than this are computed in parts, each again in the backward pass: 256 MB in float32.
_MOST_LOGITS = 64_000_000
# A model with one of these set changes its logits after the output layer, so it must make them itself.
_LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class Batch(NamedTuple):
    """Token ids [rows, longest] (padded on the right), and where and what is learned: `row` and `place`
    of each position whose next token is `label`. Lengths, and logits at once, are filled up to a
    `multiple`: oneDNN's bf16 products compile a kernel for each shape and keep up to 1,024 of them, half
    a megabyte each, which of every length its own was a fifth of the time and most of the memory."""

    ids: torch.Tensor
    row: torch.Tensor
    place: torch.Tensor
    label: torch.Tensor
    multiple: int = 1


def filled(lengths: Any, multiple: int) -> Any:
    """Rounded up to a multiple: a number, or an array of them."""
    return -(-lengths // multiple) * multiple


def batch_of(
    rows: TokenRows, numbers: np.ndarray, device: torch.device, multiple: int = 1
) -> Batch:
    """One padded batch. A row's first token has nothing before it and is never learned."""
    read = [rows[int(number)] for number in numbers]
    longest = filled(max(len(row.ids) for row in read), multiple)
    ids: np.ndarray = np.zeros((len(read), longest), np.int64)
    learned: np.ndarray = np.zeros(ids.shape, bool)
    for number, row in enumerate(read):
        ids[number, : len(row.ids)], learned[number, : len(row.ids)] = row
    at_row, at_place = np.nonzero(learned[:, 1:])
    label = ids[at_row, at_place + 1]
    parts = [torch.from_numpy(each).to(device) for each in (ids, at_row, at_place, label)]
    return Batch(*parts, multiple=multiple)  # type: ignore[misc]


def _logits_of_last_layer(model: Any) -> bool:
    return not any(
        getattr(model.config, name, None) not in (None, 1, 1.0) for name in _LOGIT_SETTINGS
    )


class TokenLosses(NamedTuple):
    """Of each learned position: -log p(label), and whether the label was the likeliest token."""

    loss: torch.Tensor
    right: torch.Tensor


def token_losses(model: Any, batch: Batch) -> TokenLosses:
    """`model` is the transformers model itself, without PEFT's wrapper."""
    if not _logits_of_last_layer(model):
        return _by_whole_model(model, batch)
    hidden = model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    # index_select, not a boolean mask: its backward pass writes each place once, in the same order.
    flat = hidden.reshape(-1, hidden.shape[-1])
    count = len(batch.label)
    more = (0, filled(count, batch.multiple) - count)
    at = functional.pad(batch.row * batch.ids.shape[1] + batch.place, more)
    made = _in_parts(
        model.get_output_embeddings(), flat.index_select(0, at), functional.pad(batch.label, more)
    )
    return TokenLosses(made.loss[:count], made.right[:count])


def _in_parts(head: Any, hidden: torch.Tensor, label: torch.Tensor) -> TokenLosses:
    most = max(1, _MOST_LOGITS // head.weight.shape[0])
    if len(hidden) <= most:
        return _losses(head(hidden), label)
    parts = zip(hidden.split(most), label.split(most), strict=True)
    made = [checkpoint(_head_losses, head, *part, use_reentrant=False) for part in parts]
    return TokenLosses(*(torch.cat(each) for each in zip(*made, strict=True)))


def _by_whole_model(model: Any, batch: Batch) -> TokenLosses:
    places = batch.place.unique()
    logits = model(input_ids=batch.ids, use_cache=False, logits_to_keep=places).logits
    return _losses(logits[batch.row, torch.searchsorted(places, batch.place)], batch.label)


def _head_losses(head: Any, hidden: torch.Tensor, label: torch.Tensor) -> TokenLosses:
    return _losses(head(hidden), label)


def _losses(logits: torch.Tensor, label: torch.Tensor) -> TokenLosses:
    loss = functional.cross_entropy(logits.float(), label, reduction="none")
    return TokenLosses(loss, logits.detach().argmax(-1) == label)


def answer_logprobs(model: Any, batch: Batch) -> torch.Tensor:
    """Sum of log p over the learned tokens of each row, [rows]."""
    loss = token_losses(model, batch).loss
    total = torch.zeros(batch.ids.shape[0], dtype=loss.dtype, device=loss.device)
    return total.index_add(0, batch.row, -loss)


def preference_losses(
    policy: torch.Tensor, reference: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's loss of each pair, and whether the chosen answer gained more than the rejected one.

    Both are sums of log-probabilities, [2 × pairs]: chosen, rejected, chosen …
    """
    gain = policy - reference
    margin = gain[0::2] - gain[1::2]
    return -functional.logsigmoid(beta * margin), margin.detach() > 0
