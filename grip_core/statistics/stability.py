"""How steadily runs train and how bad the bad ones are, after Chan et al. 2020 (arXiv:1912.05663).

Shape legend: R runs (seeds) of one arm, S evaluations at equal distances of steps. A run that ended early, as a
collapsed one may, has NaN from there on: what is told of a single run is told of the evaluations it had, and among runs
it keeps its last value, since leaving it out would leave the survivors. A run without any evaluation, or with NaN
before its end, raises ValueError. All is in the unit of the curves; where arms differ in range, divide first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from grip_core.statistics.intervals import Interval, mean_interval

ALPHA = 0.05  # Chan et al.'s tail


def lower_cvar(values: np.ndarray, alpha: float = ALPHA) -> float:
    """Conditional value at risk: the mean of the values at or below their alpha quantile.

    The quantile interpolates between values, as in the code of Chan et al. Up to 1 / alpha values (20 at 5 %) only the
    smallest lies below it, so that with few of them it is a minimum.
    """
    return float(values[values <= np.quantile(values, alpha)].mean())


def upper_cvar(values: np.ndarray, alpha: float = ALPHA) -> float:
    """The mean of the values at or above their 1 - alpha quantile; see `lower_cvar`."""
    return -lower_cvar(-values, alpha)


def dispersion_across_time(curve_RS: np.ndarray, window: int) -> np.ndarray:
    """(R,): interquartile range of a run's changes from one evaluation to the next, within a window of that many
    changes, averaged over all positions of the window.

    Differences take the trend out: steady progress has none of it, whatever its slope. A run with fewer changes is one
    window; one with a single evaluation has no change, and NaN.
    """

    def dispersion(curve_S: np.ndarray) -> float:
        changes = np.diff(curve_S)
        windows = np.lib.stride_tricks.sliding_window_view(changes, min(window, len(changes)))
        return float(stats.iqr(windows, axis=-1).mean())

    return _per_run(curve_RS, dispersion, fewest=2)


def short_term_risk(curve_RS: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """(R,): the worst changes from one evaluation to the next, as their lower CVaR: the lower, the worse a run falls in
    one go. NaN for a run with a single evaluation."""
    return _per_run(curve_RS, lambda curve_S: lower_cvar(np.diff(curve_S), alpha), fewest=2)


def long_term_risk(curve_RS: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """(R,): the worst drawdowns, the distances below the best evaluation so far, as their upper CVaR: 0 for a run that
    never falls, and the higher, the more it lost again of what it had reached, fast or slowly."""
    return _per_run(curve_RS, lambda curve_S: upper_cvar(np.maximum.accumulate(curve_S) - curve_S, alpha), fewest=1)


def dispersion_across_runs(curve_RS: np.ndarray, window: int) -> np.ndarray:
    """(S,): interquartile range over runs at each evaluation, of curves without their fast part.

    As in the paper, runs are low-pass filtered first, since how one run jitters is `dispersion_across_time`'s to tell:
    here by the centered mean of `window` evaluations (an odd number; 1 leaves sparse curves as they are), which at the
    ends takes fewer on both sides, so that straight lines pass unchanged. The code of Chan et al. has a Butterworth
    filter of order 8, which bends the ends of curves as short as ours. Raises ValueError for an even window.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"a centered window needs an odd number of evaluations, but got {window}")
    steps = curve_RS.shape[1]
    filtered = [_moving_mean(curve_S, window // 2) for curve_S in _runs(curve_RS)]
    return stats.iqr([np.pad(curve_S, (0, steps - len(curve_S)), "edge") for curve_S in filtered], axis=0)


def risk_across_runs(final_R: np.ndarray, alpha: float = ALPHA) -> float:
    """Lower CVaR of the runs' final performance: what to expect of the worst ones. With up to 1 / alpha runs it is
    `worst_seed`."""
    return lower_cvar(final_R, alpha)


def worst_seed(final_R: np.ndarray) -> float:
    """The lowest final performance; it falls as runs are added, so compare arms of equally many."""
    return float(np.min(final_R))


def gain_over_start(final_R: np.ndarray, start_R: np.ndarray, confidence: float) -> Interval:
    """Mean of final minus starting performance, run by run, with Student's t interval over runs.

    Pairing takes out how runs differ at the start. Its spread is that of training, not of the evaluation's questions.
    """
    return mean_interval(final_R - start_R, confidence)


def reward_accuracy_gap(reward_RS: np.ndarray, accuracy_RS: np.ndarray) -> np.ndarray:
    """(R,): 1 - Spearman's rank correlation of training reward and held-out accuracy over a run's evaluations.

    0 where they rise and fall together, 1 where unrelated, 2 where accuracy falls as reward rises. Ranks, because arms
    with other rewards must compare, and because changes in units of their noise would differ even if the reward were
    the accuracy: one is measured on more questions than the other. What they do not see is size: a run that learned
    nothing is near 1 as well, so read it beside `gain_over_start`. NaN with fewer than three evaluations, or if either
    never changes. The reward of an evaluation is the mean over the steps since the one before. Raises ValueError if a
    run's two curves end at different evaluations.
    """
    gaps = []
    for reward_S, accuracy_S in zip(_runs(reward_RS), _runs(accuracy_RS), strict=True):
        if len(reward_S) != len(accuracy_S):
            raise ValueError(f"a run has {len(reward_S)} rewards, but {len(accuracy_S)} accuracies")
        pairs = np.stack([reward_S, accuracy_S]).round(9)  # or equal means would differ in rank by rounding
        defined = len(reward_S) > 2 and np.ptp(pairs, axis=1).all()
        gaps.append(1 - float(stats.spearmanr(*pairs).statistic) if defined else math.nan)
    return np.array(gaps)


def _runs(curve_RS: np.ndarray) -> list[np.ndarray]:
    """Each run's curve up to its last evaluation."""
    runs = []
    for run, curve_S in enumerate(curve_RS):
        seen_S = np.isfinite(curve_S)
        count = int(seen_S.sum())
        if not count or not seen_S[:count].all():
            raise ValueError(f"a run's evaluations must be finite up to its end, but run {run} has {curve_S.tolist()}")
        runs.append(curve_S[:count])
    return runs


def _per_run(curve_RS: np.ndarray, metric: Callable[[np.ndarray], float], fewest: int) -> np.ndarray:
    return np.array([metric(curve_S) if len(curve_S) >= fewest else math.nan for curve_S in _runs(curve_RS)])


def _moving_mean(curve_S: np.ndarray, reach: int) -> np.ndarray:
    index = np.arange(len(curve_S))
    reach_S = np.minimum(reach, np.minimum(index, index[::-1]))
    total = np.append(0.0, np.cumsum(curve_S))
    return (total[index + reach_S + 1] - total[index - reach_S]) / (2 * reach_S + 1)
