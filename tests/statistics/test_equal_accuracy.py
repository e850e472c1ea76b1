from __future__ import annotations

import math

import numpy as np
import pytest

from grip_core.seeds import numpy_random
from grip_core.statistics.equal_accuracy import SmallestBudget, ratio_interval, smallest_budget

BUDGETS = np.array([1, 4, 16])


def within(effect, half=0.0, margin=0.05, k=BUDGETS, n=64) -> SmallestBudget:
    effect, half = np.array(effect), np.array(half)
    return smallest_budget(k, effect, effect - half, effect + half, margin, n)


def test_crossings_by_hand():
    # -.05 is crossed by the effect halfway from (4, -.1) to (16, 0): at 8. By the high ends, .05 above it, at their
    # second point. By the low ends, .05 below, from (16, -.05) on.
    found = within([-0.3, -0.1, 0.0], 0.05)
    assert (found.k, found.low, found.high) == pytest.approx((8.0, 4.0, 16.0))
    assert not found.is_bound


def test_the_way_to_the_full_model_is_part_of_the_curve():
    # From (16, -.1) to (64, 0): halfway, 32. The low ends come from -.15: two thirds, 16 x 4^(2/3). The high ends from
    # (4, -.15) to (16, -.05): 16.
    found = within([-0.3, -0.2, -0.1], 0.05)
    assert (found.k, found.low, found.high) == pytest.approx((32.0, 16.0, 16 * 4 ** (2 / 3)))


def test_what_is_lost_again_was_not_yet_enough():
    # Above at 4, below again at 16: the way back is from (16, -.1), at 32.
    assert within([-0.3, 0.0, -0.1]).k == pytest.approx(32.0)


def test_the_lower_end_is_where_it_is_first_possible():
    # High ends -.1, .1, -.06: first above -.05 a quarter of the way from 1 to 4.
    found = smallest_budget(
        BUDGETS, np.array([-0.3, 0.0, -0.1]), np.array([-0.4, -0.1, -0.2]), np.array([-0.1, 0.1, -0.06]), 0.05, 64
    )
    assert found.low == pytest.approx(4**0.25)


def test_the_smallest_budget_is_a_bound():
    found = within([-0.04, -0.01, 0.01], 0.02)
    assert found.is_bound
    assert (found.k, found.low) == (1.0, 1.0)
    assert found.high == pytest.approx(4 ** (0.01 / 0.03))  # low ends -.06, -.03: a third of the way


def test_the_ends_are_in_order():
    random = numpy_random(0, "curves")
    for _ in range(200):
        found = within(0.1 * random.randn(3), 0.1 * random.rand(3))
        assert 1 <= found.low <= found.k <= found.high < 64


@pytest.mark.parametrize("effect", [(-0.4, -0.1, 0.0), (-0.4, -0.01, -0.08), (-0.4, -0.3, -0.2)])
def test_the_interval_covers_the_true_budget(effect):
    """Budgets share examples, so their differences err together in part; each has its 95 % interval."""
    random, trials, covered = numpy_random(1, str(effect)), 1000, 0
    truth = within(effect).k
    for _ in range(trials):
        found = within(np.array(effect) + 0.02 * (0.6 * random.randn() + 0.8 * random.randn(3)), 1.959964 * 0.02)
        covered += found.low <= truth <= found.high
    assert covered / trials >= 0.95 - 2 * (0.05 * 0.95 / trials) ** 0.5


@pytest.mark.parametrize("budgets", [[1, 16, 4], [0, 4, 16], [4, 4, 16], [1, 16, 64]])
def test_budgets_must_ascend_to_less_than_all_tokens(budgets):
    with pytest.raises(ValueError, match="below all 64 tokens"):
        within([-0.2, -0.1, 0.0], k=np.array(budgets))


def test_a_margin_is_needed():
    with pytest.raises(ValueError, match="margin must be positive"):
        within([-0.2, -0.1, 0.0], margin=0.0)


@pytest.mark.parametrize("half", [-0.1, math.nan])
def test_differences_must_lie_within_their_intervals(half):
    with pytest.raises(ValueError, match="within its interval"):
        within([-0.2, -0.1, 0.0], half)


def test_ratio_by_hand():
    own, other = SmallestBudget(8.0, 4.0, 16.0, False), SmallestBudget(20.0, 10.0, 30.0, False)
    found = ratio_interval(own, other, lambda k: 2 + k, lambda k: k)  # ours pays 2 for choosing
    assert (found.ratio, found.low, found.high) == (10 / 20, 6 / 30, 18 / 10)
