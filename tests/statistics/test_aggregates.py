from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grip_core.seeds import numpy_random
from grip_core.statistics.aggregates import (
    iqm,
    iqm_band,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_band,
    stratified_bootstrap,
)

SCORES_RT = np.array([[0.1, 0.5], [0.2, 0.7], [0.9, 0.5]])


def test_iqm_is_the_mean_of_the_middle_half_of_all_scores():
    # Eight scores: two are cut at each end, and 3, 4, 5, 6 are left.
    assert iqm(np.array([[1.0, 200.0, 3.0, 5.0], [4.0, -50.0, 6.0, 7.0]])) == pytest.approx(4.5)


def test_iqm_cuts_whole_scores():
    # Six: floor(6 / 4) = 1 at each end, .1 and .9.
    assert iqm(SCORES_RT) == pytest.approx((0.2 + 0.5 + 0.5 + 0.7) / 4)
    assert iqm(np.array([[1.0], [2.0], [6.0]])) == pytest.approx(3.0)


def test_optimality_gap_pays_nothing_beyond_the_target():
    assert optimality_gap(SCORES_RT, 0.6) == pytest.approx((0.5 + 0.1 + 0.4 + 0.0 + 0.0 + 0.1) / 6)
    assert optimality_gap(SCORES_RT) == pytest.approx(1 - SCORES_RT.mean())


def test_performance_profile_counts_what_is_strictly_above():
    shares = performance_profile(SCORES_RT, np.array([0.0, 0.2, 0.5, 0.9]))
    np.testing.assert_allclose(shares, [1.0, 4 / 6, 2 / 6, 0.0])


def test_probability_of_improvement_by_hand():
    # Task 0: .1 beats neither of .15 and .3, .2 beats one, .9 both: 3 of 6. Task 1: .5 ties with one and beats one
    # (1.5), twice, and .7 beats both: 5 of 6.
    other_QT = np.array([[0.15, 0.5], [0.3, 0.4]])
    assert probability_of_improvement(SCORES_RT, other_QT) == pytest.approx((3 / 6 + 5 / 6) / 2)


def test_probability_of_improvement_is_mann_whitney_s():
    random = numpy_random(0, "scores")
    a, b = random.randint(5, size=(7, 3)), random.randint(5, size=(4, 3))
    golden = np.mean([stats.mannwhitneyu(a[:, t], b[:, t]).statistic / 28 for t in range(3)])
    assert probability_of_improvement(a, b) == pytest.approx(golden)


def test_the_bootstrap_s_quantiles_are_those_of_the_enumeration():
    # Runs 0 and 1: the mean of two draws is 0, 1/2, 1/2, 1, so its 10 % and 90 % quantiles are 0 and 1, and the 30 %
    # and 70 % ones 1/2.
    scores = np.array([[0.0], [1.0]])
    wide = stratified_bootstrap(np.mean, scores, 2000, numpy_random(0, "bootstrap"), 0.8)
    narrow = stratified_bootstrap(np.mean, scores, 2000, numpy_random(0, "bootstrap"), 0.4)
    assert (wide.effect, wide.low, wide.high, wide.n) == (0.5, 0.0, 1.0, 2)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_the_bootstrap_draws_within_tasks():
    # Tasks differ, their runs do not: whatever is drawn, every draw is the same.
    found = stratified_bootstrap(iqm, np.tile([0.1, 0.5, 0.9], (4, 1)), 50, numpy_random(0, "bootstrap"), 0.95)
    assert found.low == found.effect == found.high == pytest.approx(0.5)


def test_the_bootstrap_draws_each_task_s_runs_by_themselves():
    # Task 1 undoes task 0 run by run. Drawn together the mean would always be 0; apart, it is the mean of four draws
    # of +-1, with variance 1/4, and reaches +-1 in 1 of 16 draws each.
    scores = np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = stratified_bootstrap(np.mean, scores, 2000, numpy_random(0, "bootstrap"), 0.95)
    assert (found.effect, found.low, found.high) == (0.0, -1.0, 1.0)


def test_the_bootstrap_is_the_same_for_the_same_generator():
    scores = numpy_random(1, "scores").rand(5, 3)
    one, same, other = (
        stratified_bootstrap(iqm, scores, 100, numpy_random(seed, "bootstrap"), 0.95) for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_with_three_runs_the_bootstrap_covers_less_often_than_it_says():
    """Why no verdict may rest on it."""
    random, trials = numpy_random(2, "scores"), 200
    intervals = [stratified_bootstrap(np.mean, random.randn(3, 1), 100, random, 0.95) for _ in range(trials)]
    assert np.mean([item.low <= 0.0 <= item.high for item in intervals]) < 0.85


def test_a_band_is_the_interquartile_mean_of_each_step_within_quantiles_of_drawn_runs():
    curve_RS = numpy_random(0, "curves").normal(size=(5, 3))
    mean_S, low_S, high_S = iqm_band(curve_RS, 400, numpy_random(0, "band"), 0.9)
    index_DR = numpy_random(0, "band").randint(5, size=(400, 5))
    for step in range(3):
        run_R = curve_RS[:, step]
        assert mean_S[step] == pytest.approx(np.sort(run_R)[1:4].mean())
        drawn = [np.sort(run_R[index_R])[1:4].mean() for index_R in index_DR]
        assert (low_S[step], high_S[step]) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])))
    assert np.isnan(iqm_band(curve_RS[:1], 400, numpy_random(0, "band"), 0.9)[1]).all()


def test_a_profile_s_band_is_that_of_drawn_runs():
    scores_RT, threshold_X = numpy_random(0, "scores").rand(4, 6), np.array([0.2, 0.5, 0.9])
    share_X, low_X, high_X = profile_band(scores_RT, threshold_X, 300, numpy_random(0, "band"), 0.8)
    assert share_X == pytest.approx(performance_profile(scores_RT, threshold_X))
    index_DR = numpy_random(0, "band").randint(4, size=(300, 4))
    drawn_DX = [performance_profile(scores_RT[index_R], threshold_X) for index_R in index_DR]
    assert np.stack([low_X, high_X]) == pytest.approx(np.quantile(drawn_DX, [0.1, 0.9], axis=0))
