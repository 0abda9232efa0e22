"""What is learned and how it is weighed: masks, losses and the fast LoRA layer against plain ones."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engines import fast_lora, objectives, peft_engine
from engines.hyperparameters import Hyperparameters
from tests.training.conftest import MODEL
from token_rows import TokenRows

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def base() -> Any:
    return peft_engine.load_base(MODEL, 600, device=CPU)


@pytest.fixture
def rows(token_rows: Path) -> TokenRows:
    return TokenRows(token_rows)


def test_learned_tokens_are_the_answers_and_their_end(rows: TokenRows) -> None:
    from corral import settings
    from corral.datasets.tokenizer import Tokenizer

    with Tokenizer(MODEL, settings.Settings().llama_bin_dir) as tokens:
        for number in range(len(rows)):
            ids, learned = rows[number]
            text = b"".join(tokens.piece(int(t)) for t in ids[learned]).decode()
            assert text.startswith('{"title"')
            assert text.endswith("}<|im_end|>")
            assert tokens.ends_turn(int(ids[learned][-1]))


def test_losses_are_the_whole_models_at_learned_places(base: Any, rows: TokenRows) -> None:
    batch = objectives.batch_of(rows, np.array([0, 5, 9]), CPU)
    with torch.no_grad():
        found = objectives.token_losses(base, batch)
        logits = base(input_ids=batch.ids).logits
    wanted = []
    for at, number in enumerate([0, 5, 9]):
        ids, learned = rows[number]
        places = np.flatnonzero(learned)
        row = functional.log_softmax(logits[at], -1)
        wanted += [-float(row[place - 1, int(ids[place])]) for place in places if place]
    assert found.loss.tolist() == pytest.approx(wanted, abs=1e-4)
    assert len(wanted) == int(rows.learned[[0, 5, 9]].sum())


def test_padding_changes_nothing(base: Any, rows: TokenRows) -> None:
    """Plain attention has no mask but the causal one: a padded row must get what it gets alone."""
    both = [int(rows.lengths.argmin()), int(rows.lengths.argmax())]
    with torch.no_grad():
        together = objectives.answer_logprobs(base, objectives.batch_of(rows, np.array(both), CPU))
        apart = [
            objectives.answer_logprobs(base, objectives.batch_of(rows, np.array([n]), CPU))[0]
            for n in both
        ]
    assert together.tolist() == pytest.approx([float(x) for x in apart], rel=1e-4)


def test_filled_up_lengths_change_nothing(base: Any, rows: TokenRows) -> None:
    """Neither places after the end nor logits beyond the learned ones count, in losses or gradients."""
    model = peft_engine.lora_over(copy.deepcopy(base), Hyperparameters(rank=4, alpha=8))
    made = []
    for multiple in (1, 64):
        model.zero_grad()
        batch = objectives.batch_of(rows, np.array([1, 2, 7]), CPU, multiple)
        assert multiple == 1 or batch.ids.shape[1] % 64 == 0
        found = objectives.token_losses(model.get_base_model(), batch)
        assert len(found.loss) == len(found.right) == int(rows.learned[[1, 2, 7]].sum())
        found.loss.sum().backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        made.append((found.loss.detach(), grads))
    torch.testing.assert_close(made[0][0], made[1][0], rtol=1e-4, atol=1e-5)
    for a, b in zip(made[0][1], made[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_many_logits_are_computed_in_parts(
    base: Any, rows: TokenRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = objectives.batch_of(rows, np.array([1, 2]), CPU)
    model = peft_engine.lora_over(copy.deepcopy(base), Hyperparameters(rank=4, alpha=8))

    def gradients() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = objectives.token_losses(model.get_base_model(), batch).loss.sum()
        loss.backward()
        return float(loss.detach()), [
            p.grad.clone() for p in model.parameters() if p.grad is not None
        ]

    whole = gradients()
    monkeypatch.setattr(objectives, "_MOST_LOGITS", 2048 * 50)
    parts = gradients()
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    for a, b in zip(whole[1], parts[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_fast_layer_is_pefts(base: Any, rows: TokenRows) -> None:
    plain = peft_engine.lora_over(copy.deepcopy(base), Hyperparameters(rank=4, alpha=8))
    for name, parameter in plain.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    fast = copy.deepcopy(plain)
    assert fast_lora.install(fast) == 35
    batch = objectives.batch_of(rows, np.array([3, 4]), CPU)
    losses = []
    for model in (plain, fast):
        loss = objectives.token_losses(model.get_base_model(), batch).loss.mean()
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, a), b in zip(plain.named_parameters(), fast.parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=name)
    with torch.no_grad(), fast.disable_adapter():
        off = objectives.token_losses(fast.get_base_model(), batch).loss.mean()
        assert float(off) != pytest.approx(losses[1], rel=1e-4)
        assert float(off) == pytest.approx(
            float(objectives.token_losses(base, batch).loss.mean()), rel=1e-5
        )


def test_the_fast_layer_leaves_others_alone(base: Any) -> None:
    with_dropout = peft_engine.lora_over(
        copy.deepcopy(base), Hyperparameters(rank=4, alpha=8, dropout=0.1)
    )
    assert fast_lora.install(with_dropout) == 0


def test_preference_loss_by_hand() -> None:
    policy, reference = (
        torch.tensor([-1.0, -5.0, -3.0, -2.0]),
        torch.tensor([-2.0, -4.0, -2.0, -4.0]),
    )
    loss, right = objectives.preference_losses(policy, reference, beta=0.5)
    # Gains: +1 and -1, margin 2; -1 and +2, margin -3.
    wanted = [np.log1p(np.exp(-0.5 * 2)), np.log1p(np.exp(0.5 * 3))]
    assert loss.tolist() == pytest.approx(wanted, rel=1e-5)
    assert right.tolist() == [True, False]
    start, _ = objectives.preference_losses(reference, reference, beta=0.5)
    assert start.tolist() == pytest.approx([np.log(2)] * 2, rel=1e-6)
