"""The plan of a training: every row once an epoch, the same for the same seed, almost no padding."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BadRequest
from engines.batching import cut, plan, rate_share, valid_every
from engines.hyperparameters import Hyperparameters

_DRAW = Random(3)
LENGTHS = np.array([_DRAW.randint(20, 600) for _ in range(403)])


def resolved(**given: object) -> Hyperparameters:
    return replace(Hyperparameters(), **given).resolved(3_000_000, len(LENGTHS), "cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [{"batch_size": 8}, {"batch_tokens": 4096}])
def test_every_row_is_seen_once_an_epoch(batch: dict[str, int]) -> None:
    steps, ends = plan(LENGTHS, resolved(epochs=2, **batch))
    for begin, end in zip([0, *ends], ends, strict=False):
        seen = sorted(int(row) for step in steps[begin:end] for part in step for row in part)
        assert seen == list(range(len(LENGTHS)))
    assert ends[-1] == len(steps)


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        steps, _ = plan(LENGTHS, resolved(epochs=1, batch_size=8, seed=seed))
        return [int(row) for step in steps for part in step for row in part]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_steps_have_so_many_rows_and_little_padding() -> None:
    steps, _ = plan(LENGTHS, resolved(epochs=1, batch_size=8))
    sizes = [sum(map(len, step)) for step in steps]
    assert sizes == [8] * 50 + [3]
    computed = sum(LENGTHS[part].max() * len(part) for step in steps for part in step)
    assert LENGTHS.sum() / computed > 0.95


def test_steps_have_so_many_tokens() -> None:
    steps, _ = plan(LENGTHS, resolved(epochs=1, batch_tokens=4096))
    sums = [sum(int(LENGTHS[part].sum()) for part in step) for step in steps]
    assert max(sums) <= 4096
    assert min(sums[:-1]) > 4096 - LENGTHS.max()


@pytest.mark.parametrize("batch", [{"batch_size": 8}, {"batch_tokens": 2048}])
def test_a_step_is_a_random_draw_of_all_lengths(batch: dict[str, int]) -> None:
    """With rows of like length in a step, the means of steps are spread as the rows are."""
    steps, _ = plan(LENGTHS, resolved(epochs=1, **batch))
    means = [LENGTHS[np.concatenate(step)].mean() for step in steps[:-1]]
    assert np.std(means) < 0.6 * LENGTHS.std()


def test_a_step_is_cut_where_it_costs_least() -> None:
    lengths = np.array([100, 500, 102, 490, 101])
    assert cut([0, 1, 2, 3, 4], lengths, 1024) == [[1, 3], [2, 4, 0]]
    assert cut([0, 1, 2, 3, 4], lengths, 30_000) == [[1, 3, 2, 4, 0]]
    assert cut([1], lengths, 50) == [[1]]


def test_micro_batches_keep_to_their_size() -> None:
    steps, _ = plan(LENGTHS, resolved(epochs=1, batch_size=16, micro_tokens=1500))
    sizes = [LENGTHS[part].max() * len(part) for step in steps for part in step]
    assert max(sizes) <= 1500


def test_a_fraction_of_an_epoch() -> None:
    whole, _ = plan(LENGTHS, resolved(epochs=2, batch_size=8))
    part, ends = plan(LENGTHS, resolved(epochs=1.5, batch_size=8))
    assert len(part) == round(0.75 * len(whole))
    assert ends == [len(whole) // 2, len(part)]


@given(st.integers(1, 400), st.sampled_from(["cosine", "linear", "constant"]))
def test_rates_rise_and_stay_within_the_peak(total: int, schedule: str) -> None:
    hyper = resolved(schedule=schedule)
    shares = [rate_share(step, total, hyper) for step in range(total)]
    assert all(0 < share <= 1 for share in shares)
    assert max(shares) > 0.4


def test_validation_ten_times_or_as_told() -> None:
    assert valid_every(100, resolved()) == 10
    assert valid_every(3, resolved()) == 1
    assert valid_every(100, resolved(valid_every=7)) == 7


# ---- hyperparameters ---------------------------------------------------------------------------


def test_defaults_follow_size_and_method() -> None:
    small, large = (
        Hyperparameters().resolved(size, 500, "cpu") for size in (3_000_000, 500_000_000)
    )
    assert (small.rate, small.rank, small.alpha, small.epochs) == (2e-3, 32, 64, 3)
    assert (large.rate, large.rank, large.alpha) == (2e-4, 16, 32)
    assert small.micro_tokens == 1024
    assert Hyperparameters().resolved(3_000_000, 500, "cuda").micro_tokens == 4096
    assert Hyperparameters(method="dpo").resolved(500_000_000, 500, "cpu").rate == pytest.approx(
        2e-5
    )


def test_the_multiplier_multiplies_the_default_and_a_rate_stands() -> None:
    twice = Hyperparameters(rate_multiplier=2).resolved(3_000_000, 500, "cpu")
    assert twice.rate == pytest.approx(4e-3)
    assert (
        Hyperparameters(rate=1e-4, rate_multiplier=2).resolved(3_000_000, 500, "cpu").rate == 1e-4
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("epochs", 0.0), ("dropout", 1.0), ("method", "rlhf"), ("batch_size", 0), ("beta", -1.0)],
)  # fmt: skip
def test_what_is_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BadRequest) as caught:
        Hyperparameters(**{name: value})  # type: ignore[arg-type]
    assert caught.value.param == name
    assert repr(value).strip("'") in caught.value.message
