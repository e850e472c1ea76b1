from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from grip_core.statistics.survival import kaplan_meier, wilson_interval

# Remission of leukaemia under 6-MP, weeks (Freireich et al. 1963), the example of many textbooks, which print the
# estimates and Greenwood's standard errors below.
WEEK_R = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35])
RELAPSED_R = np.isin(np.arange(21), [0, 1, 2, 4, 6, 9, 10, 14, 15])
TEXTBOOK = {
    6: (21, 0.8571, 0.0764),
    7: (17, 0.8067, 0.0869),
    10: (15, 0.7529, 0.0963),
    13: (12, 0.6902, 0.1068),
    16: (11, 0.6275, 0.1141),
    22: (7, 0.5378, 0.1282),
    23: (6, 0.4482, 0.1346),
}


@pytest.mark.parametrize(("count", "n"), [(0, 5), (2, 5), (5, 5), (81, 263)])
def test_wilson_is_scipy_s(count, n):
    found = wilson_interval(count, n, 0.95)
    golden = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert (found.effect, found.n) == (count / n, n)
    assert (found.low, found.high) == pytest.approx((golden.low, golden.high), abs=1e-12)


def test_wilson_has_a_width_where_nothing_happened():
    # 0 of n: from 0 to z^2 / (n + z^2).
    z = 1.959964
    assert wilson_interval(0, 5, 0.95).high == pytest.approx(z**2 / (5 + z**2), abs=1e-6)


@pytest.mark.parametrize(("count", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_counts_among_n(count, n):
    with pytest.raises(ValueError, match="0 to n"):
        wilson_interval(count, n, 0.95)


def test_kaplan_meier_gives_the_textbook_s_estimates():
    found = kaplan_meier(WEEK_R, RELAPSED_R, 0.95)
    rows = {step: row for row, step in enumerate(found.step_T)}
    for week, (at_risk, surviving, _) in TEXTBOOK.items():
        assert found.at_risk_T[rows[week]] == at_risk
        assert found.surviving_T[rows[week]] == pytest.approx(surviving, abs=5e-5)
    # Where runs were only censored, nothing falls.
    assert found.surviving_T[rows[9]] == found.surviving_T[rows[7]]
    assert found.surviving_T[rows[35]] == found.surviving_T[rows[23]]


def test_kaplan_meier_s_bounds_solve_wilson_s_equation_with_greenwood_s_variance():
    # A bound p lies z standard errors from the estimate, the error being p's own with S (1 - S) / variance runs.
    found = kaplan_meier(WEEK_R, RELAPSED_R, 0.95)
    rows = {step: row for row, step in enumerate(found.step_T)}
    for week, (_, surviving, error) in TEXTBOOK.items():
        runs = surviving * (1 - surviving) / error**2
        for bound_T in (found.low_T, found.high_T):
            bound = bound_T[rows[week]]
            distance = abs(surviving - bound) / (bound * (1 - bound) / runs) ** 0.5
            assert distance == pytest.approx(1.959964, abs=5e-3)


def test_kaplan_meier_is_scipy_s_estimate():
    found = kaplan_meier(WEEK_R, RELAPSED_R, 0.95)
    golden = stats.ecdf(stats.CensoredData(uncensored=WEEK_R[RELAPSED_R], right=WEEK_R[~RELAPSED_R])).sf
    np.testing.assert_allclose(found.surviving_T, golden.evaluate(found.step_T))


def test_runs_censored_at_one_end_have_wilson_s_own_bounds():
    found = kaplan_meier(np.array([40, 100, 60, 100, 100]), np.array([True, False, True, False, False]), 0.9)
    assert found.step_T.tolist() == [0, 40, 60, 100]
    assert found.at_risk_T.tolist() == [5, 5, 4, 3]
    for row, sound in enumerate([5, 4, 3, 3]):
        golden = wilson_interval(sound, 5, 0.9)
        assert found.surviving_T[row] == pytest.approx(golden.effect)
        assert (found.low_T[row], found.high_T[row]) == pytest.approx((golden.low, golden.high))


def test_if_all_collapse_the_bounds_are_those_of_none_of_n():
    found = kaplan_meier(np.array([10, 20, 20]), np.array([True, True, True]), 0.95)
    golden = wilson_interval(0, 3, 0.95)
    assert found.surviving_T[-1] == 0.0
    assert (found.low_T[-1], found.high_T[-1]) == pytest.approx((0.0, golden.high))


def test_before_any_collapse_the_bounds_are_those_of_the_runs_at_risk():
    found = kaplan_meier(np.array([10, 20, 20]), np.array([False, False, False]), 0.95)
    assert found.surviving_T.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(found.low_T, [wilson_interval(n, n, 0.95).low for n in (3, 3, 2)])


def test_a_run_that_ends_where_another_collapses_was_at_risk():
    found = kaplan_meier(np.array([10, 10]), np.array([True, False]), 0.95)
    assert found.surviving_T.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("steps", [[], [0, 5], [float("nan"), 5]])
def test_survival_needs_runs_that_ran(steps):
    with pytest.raises(ValueError, match="after step 0"):
        kaplan_meier(np.array(steps), np.zeros(len(steps), dtype=bool), 0.95)
