from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grip_core.seeds import numpy_random
from grip_core.statistics.ranks import kendall, rank_stability


def test_kendall_is_scipy_s_ties_included():
    random = numpy_random(0, "ranks")
    one_A, other_DA = random.randint(5, size=6) / 7, random.randint(5, size=(40, 6)) / 7
    golden = [stats.kendalltau(one_A, other_A).statistic for other_A in other_DA]
    np.testing.assert_allclose(kendall(one_A, other_DA), golden)


def test_a_ranking_of_equals_says_nothing():
    order = np.array([1.0, 2.0, 3.0])
    assert kendall(order, np.ones((1, 3))).tolist() == [0.0]
    assert kendall(np.ones(3), order[None]).tolist() == [0.0]


def test_means_that_differ_by_rounding_tie():
    assert kendall(np.array([0.1 + 0.2, 0.3]), np.array([[1.0, 2.0]])).tolist() == [0.0]


def test_stability_is_that_of_the_enumeration():
    # Arm 0 has mean 0, 1/2, 1/2, 1 with equal probability, arm 1 always .25: arm 0 is first in three of four draws, as
    # with all seeds, and tau is 1 there and -1 in the fourth.
    found = rank_stability([np.array([0.0, 1.0]), np.full(3, 0.25)], 4000, numpy_random(0, "ranks"))
    assert found.first_A == pytest.approx([0.75, 0.25], abs=0.03)
    assert found.first_A.sum() == pytest.approx(1.0)
    assert found.tau == pytest.approx(0.5, abs=0.06)


def test_arms_are_resampled_by_themselves():
    # Drawn together, seeds of equal arms would tie in every draw. Apart, each is ahead in 5 of 16: one has 1 and the
    # other not (1/4 * 3/4), or 1/2 against 0 (1/2 * 1/4); the ties are shared, and 10 of 16 draws decide.
    arms = [np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([-1.0])]
    found = rank_stability(arms, 4000, numpy_random(1, "ranks"))
    assert found.first_A == pytest.approx([0.5, 0.5, 0.0], abs=0.03)
    # All seeds: 0 and 1 tie, both above 2. tau-b with a draw that ties as well is 1, else 2 / sqrt(2 * 3).
    assert found.tau == pytest.approx(6 / 16 + 10 / 16 * 2 / 6**0.5, abs=0.01)


def test_arms_of_the_same_seeds_are_resampled_together():
    arms = [np.array([0.0, 1.0]), np.array([0.1, 1.1])]
    found = rank_stability(arms, 100, numpy_random(1, "ranks"), same_seeds=True)
    assert found.first_A.tolist() == [0.0, 1.0]
    assert found.tau == 1.0
    assert rank_stability(arms, 100, numpy_random(1, "ranks")).tau < 1.0


def test_without_spread_the_order_stands():
    found = rank_stability([np.full(3, 0.1), np.array([0.3]), np.full(5, 0.2)], 50, numpy_random(0, "ranks"))
    assert found.first_A.tolist() == [0.0, 1.0, 0.0]
    assert found.tau == pytest.approx(1.0)


def test_the_same_generator_gives_the_same():
    arms = [numpy_random(arm, "scores").rand(5) for arm in range(4)]
    one, same, other = (rank_stability(arms, 100, numpy_random(seed, "ranks")) for seed in (0, 0, 1))
    assert one.first_A.tolist() == same.first_A.tolist()
    assert one.tau == same.tau != other.tau
