from __future__ import annotations

import numpy as np
import pytest

from grip_core.statistics.sensitivity import effective_dimension, normalize, sensitivity, tuning_curve

# Two hyper-parameters on a grid of two by two, and two environments.
GRID_HP = np.array([["8", "low"], ["8", "high"], ["16", "low"], ["16", "high"]])
# Best per environment 1.0 (row 3) and .8 (row 0); means .5, .45, .6, .55: one setting for all is row 2.
SCORE_HE = np.array([[0.2, 0.8], [0.3, 0.6], [0.8, 0.4], [1.0, 0.1]])


def test_normalize_puts_percentiles_at_zero_and_one():
    # 21 scores: the 5th percentile is the second, the 95th the last but one.
    score_HE = np.stack([np.arange(21.0), 100 - 10 * np.arange(21.0)], axis=1)
    found = normalize(score_HE)
    np.testing.assert_allclose(found[:, 0], (np.arange(21.0) - 1) / 18)
    np.testing.assert_allclose(found[:, 1], found[::-1, 0])


def test_an_environment_without_differences_is_refused():
    with pytest.raises(ValueError, match="differ"):
        normalize(np.array([[0.1, 0.5], [0.2, 0.5]]))


def test_sensitivity_by_hand():
    assert sensitivity(SCORE_HE) == pytest.approx((1.0 + 0.8) / 2 - 0.6)


def test_a_setting_that_is_best_everywhere_leaves_no_sensitivity():
    assert sensitivity(np.array([[0.9, 0.5], [0.8, 0.4]])) == pytest.approx(0.0)


def test_tuning_curve_by_hand():
    # None: row 2, .6. One: the first alone, rows 0 and 2: (.8 + .8) / 2; the second alone, rows 2 and 3: (1 + .4) / 2.
    assert tuning_curve(GRID_HP, SCORE_HE) == pytest.approx([0.6, 0.8, 0.9])


def test_tuning_curve_ends_are_the_sensitivity():
    curve = tuning_curve(GRID_HP, SCORE_HE)
    assert curve[-1] - curve[0] == pytest.approx(sensitivity(SCORE_HE))


def test_one_factor_at_a_time_has_only_the_settings_that_were_run():
    # The best mean is row 1's, so that of the first factor only rows 0 and 1 can be chosen, of the second 1 and 2.
    setting_HP = np.array([[0, 0], [1, 0], [1, 1]])
    score_HE = np.array([[0.9, 0.0], [0.6, 0.6], [0.5, 0.65]])
    assert tuning_curve(setting_HP, score_HE) == pytest.approx([0.6, 0.75, 0.775])


# Row 2 stays the best for all, and 95 % of the tuned .9 are .855. The second factor alone gives 1 (row 3) in the first
# environment and row 2's score in the second: .85, then .86. The last row 2 has a mean of .875 untuned.
@pytest.mark.parametrize(("row", "expected"), [([0.8, 0.7], 2), ([0.8, 0.72], 1), ([0.95, 0.8], 0)])
def test_effective_dimension_is_the_first_that_is_enough(row, expected):
    score_HE = SCORE_HE.copy()
    score_HE[2] = row
    assert effective_dimension(GRID_HP, score_HE) == expected


def test_effective_dimension_needs_a_positive_score():
    with pytest.raises(ValueError, match="positive"):
        effective_dimension(GRID_HP, SCORE_HE - 1.0)
