from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grip_core.seeds import numpy_random
from grip_core.statistics.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    gain_over_start,
    long_term_risk,
    lower_cvar,
    reward_accuracy_gap,
    risk_across_runs,
    short_term_risk,
    upper_cvar,
    worst_seed,
)

NAN = float("nan")


def test_cvar_is_the_mean_of_the_tail():
    # 0 .. 100: the 5 % quantile is 5, and at or below it are 0 .. 5.
    values = numpy_random(0, "order").permutation(101).astype(float)
    assert lower_cvar(values) == pytest.approx(2.5)
    assert upper_cvar(values) == pytest.approx(97.5)
    assert lower_cvar(values, 0.1) == pytest.approx(5.0)


def test_up_to_twenty_runs_the_tail_is_the_worst_seed():
    final_R = np.arange(20.0) ** 2
    assert risk_across_runs(final_R) == worst_seed(final_R) == 0.0
    # Of 21 the second lies on the quantile itself.
    assert risk_across_runs(np.arange(21.0)) == pytest.approx(0.5)
    assert worst_seed(np.arange(21.0)) == 0.0


def test_dispersion_across_time_by_hand():
    # Changes 1, 3, 1, 5. Windows of two: quartiles of (1, 3) are 1.5 and 2.5, so 1; then 1, and of (1, 5) it is 2.
    # Windows of three: (1, 3, 1) has quartiles 1 and 2, (3, 1, 5) has 2 and 4.
    curve_RS = np.array([[0.0, 1.0, 4.0, 5.0, 10.0]])
    assert dispersion_across_time(curve_RS, 2) == pytest.approx([4 / 3])
    assert dispersion_across_time(curve_RS, 3) == pytest.approx([1.5])


def test_steady_progress_has_no_dispersion_across_time():
    steady_S = np.linspace(0.0, 8.0, 9)  # binary fractions, so that changes agree to the last bit
    jitter_S = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])
    found_R = dispersion_across_time(np.stack([steady_S, 3 * steady_S, steady_S + jitter_S]), 4)
    assert found_R == pytest.approx([0.0, 0.0, 2.0])  # changes of the last are 2, 0, 2, 0, ...


def test_short_term_risk_is_the_worst_fall():
    curve_RS = np.array([[0.0, 4.0, 1.0, 3.0], [0.0, 1.0, 2.0, 4.0]])
    assert short_term_risk(curve_RS) == pytest.approx([-3.0, 1.0])
    # Of changes 4, -3, 2 half lie at or below the median: -3 and 2.
    assert short_term_risk(curve_RS, 0.5)[0] == pytest.approx(-0.5)


def test_long_term_risk_is_the_worst_drawdown_fast_or_slow():
    # Drawdowns of the first: 0, 0, 1, 2, 3, 0; the second falls as deep in one go, and the third never.
    curve_RS = np.array([[0.0, 5, 4, 3, 2, 6], [0.0, 5, 2, 5, 5, 6], [0.0, 1, 1, 2, 3, 3]])
    assert long_term_risk(curve_RS) == pytest.approx([3.0, 3.0, 0.0])
    # The median of the first is .5: 1, 2 and 3 are above.
    assert long_term_risk(curve_RS, 0.5)[0] == pytest.approx(2.0)


def test_dispersion_across_runs_is_the_interquartile_range_at_each_evaluation():
    curve_RS = numpy_random(0, "curves").rand(5, 7)
    golden = [stats.iqr(curve_RS[:, step]) for step in range(7)]
    np.testing.assert_allclose(dispersion_across_runs(curve_RS, 1), golden)


def test_dispersion_across_runs_sees_levels_but_not_jitter():
    # Two runs: the interquartile range is half their distance. Straight lines pass the filter unchanged, ends included;
    # the mean of three of 3, -3, 3 is 1 in absolute value.
    line_S, jitter_S = np.arange(6.0), np.array([3.0, -3, 3, -3, 3, -3])
    np.testing.assert_allclose(dispersion_across_runs(np.stack([line_S, 3 * line_S]), 3), line_S)
    found_S = dispersion_across_runs(np.stack([line_S, line_S + jitter_S]), 3)
    np.testing.assert_allclose(found_S, [1.5, 0.5, 0.5, 0.5, 0.5, 1.5])
    # At the ends the mean of five takes one, then three.
    found_S = dispersion_across_runs(np.stack([0 * line_S, np.array([0.0, 0, 10, 20, 0, 0])]), 5)
    np.testing.assert_allclose(found_S, np.array([0, 10 / 3, 6, 6, 20 / 3, 0]) / 2)


@pytest.mark.parametrize("window", [0, 2])
def test_a_centered_window_is_odd(window):
    with pytest.raises(ValueError, match="odd"):
        dispersion_across_runs(np.zeros((2, 5)), window)


def test_a_run_that_ended_early_is_told_of_by_what_it_had():
    curve_RS = np.array([[0.0, 4.0, 1.0, NAN, NAN], [2.0, NAN, NAN, NAN, NAN]])
    assert short_term_risk(curve_RS) == pytest.approx([-3.0, NAN], nan_ok=True)
    assert long_term_risk(curve_RS) == pytest.approx([3.0, 0.0])
    # One window of the changes 4 and -3.
    assert dispersion_across_time(curve_RS, 4) == pytest.approx([3.5, NAN], nan_ok=True)


def test_among_runs_one_that_ended_early_keeps_its_last_value():
    ended_RS = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, NAN, NAN]])
    np.testing.assert_allclose(dispersion_across_runs(ended_RS, 1), [0.0, 0.5, 0.0, 0.5])


@pytest.mark.parametrize("wrong", [[NAN, 1.0, 2.0], [0.0, NAN, 2.0], [NAN, NAN, NAN]])
def test_gaps_before_a_run_s_end_are_refused(wrong):
    with pytest.raises(ValueError, match="run 1"):
        long_term_risk(np.array([[0.0, 1.0, 2.0], wrong]))


def test_gain_is_paired_by_run():
    start_R, final_R = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.7, 1.2])
    found = gain_over_start(final_R, start_R, 0.95)
    low, high = stats.ttest_rel(final_R, start_R).confidence_interval(0.95)
    assert (found.effect, found.low, found.high, found.n) == pytest.approx((0.2, low, high, 3))


def test_gap_of_reward_and_accuracy_by_hand():
    rising_S = np.array([1.0, 2, 3, 4])
    reward_RS = np.stack([rising_S, rising_S, rising_S, 100 * rising_S**3, rising_S])
    accuracy_RS = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.2, 0.1, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4], [0.1] * 4]
    )
    # The third's ranks differ by 1 four times: 1 - 6 * 4 / (4 * 15) = .6. The last has no correlation.
    assert reward_accuracy_gap(reward_RS, accuracy_RS) == pytest.approx([0.0, 2.0, 0.4, 0.0, NAN], nan_ok=True)


def test_gap_gives_equal_means_equal_ranks():
    # .1 + .2 and .3 differ by rounding.
    reward_RS, accuracy_RS = np.array([[0.1 + 0.2, 0.3, 0.4]]), np.array([[0.5, 0.4, 0.6]])
    assert reward_accuracy_gap(reward_RS, accuracy_RS) == pytest.approx([1 - 1.5 / 3**0.5])


def test_gap_needs_three_evaluations_of_both():
    assert np.isnan(reward_accuracy_gap(np.array([[1.0, 2.0, NAN]]), np.array([[1.0, 2.0, NAN]]))).all()
    with pytest.raises(ValueError, match="2 rewards, but 3 accuracies"):
        reward_accuracy_gap(np.array([[1.0, 2.0, NAN]]), np.array([[1.0, 2.0, 3.0]]))
