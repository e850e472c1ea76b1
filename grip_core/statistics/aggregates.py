"""Scores of several runs on several tasks in one number, after Agarwal et al. 2021 (arXiv:2108.13264).

Shape legend: R runs (seeds) of one method, Q runs of another, T tasks (benchmarks), X thresholds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from grip_core.statistics.intervals import Interval


def iqm(scores_RT: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half of all R x T scores together.

    As in rliable, whole scores are cut: floor(R T / 4) at each end, which is exactly a quarter only if 4 divides R T,
    and nothing at all below four scores.
    """
    return float(stats.trim_mean(scores_RT, 0.25, axis=None))


def optimality_gap(scores_RT: np.ndarray, target: float = 1.0) -> float:
    """Mean amount by which scores fall short of `target`, in the scores' unit; what exceeds it earns nothing."""
    return float(np.maximum(target - scores_RT, 0.0).mean())


def performance_profile(scores_RT: np.ndarray, threshold_X: np.ndarray) -> np.ndarray:
    """Share of all scores strictly above each threshold, (X,): every task has the same number of runs and weighs the
    same."""
    return (scores_RT[..., None] > threshold_X).mean((0, 1))


def probability_of_improvement(scores_RT: np.ndarray, other_QT: np.ndarray) -> float:
    """Probability that a run of the method beats one of the other on a task drawn at random; a tie counts one half.

    The mean over tasks of the Mann-Whitney U statistic over R Q. It says how often, not by how much.
    """
    return float((np.sign(scores_RT[:, None] - other_QT[None]).mean() + 1) / 2)


def stratified_bootstrap(
    statistic: Callable[[np.ndarray], float],
    scores_RT: np.ndarray,
    draws: int,
    generator: np.random.RandomState,
    confidence: float,
) -> Interval:
    """Percentile interval of `statistic`, whose runs are drawn anew with replacement within each task; `n` is R.

    Descriptive only; no verdict may rest on it. With 3 to 10 runs it covers less often than it says, it knows nothing
    of new images, and it draws each task's runs by themselves although one trained pruner answers all of them.
    """
    runs, tasks = scores_RT.shape
    index_DRT = generator.randint(runs, size=(draws, runs, tasks))
    values_D = [statistic(np.take_along_axis(scores_RT, index_RT, axis=0)) for index_RT in index_DRT]
    low, high = np.quantile(values_D, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(statistic(scores_RT)), float(low), float(high), runs)


Band = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A curve, and its lower and upper bound."""


def iqm_band(curve_RS: np.ndarray, draws: int, generator: np.random.RandomState, confidence: float) -> Band:
    """The interquartile mean over runs at each of S steps, and its pointwise percentile bounds, (S,) each.

    Whole runs are drawn anew, with replacement. Descriptive only, as `stratified_bootstrap`. One run has bounds of NaN.
    """
    return _band(curve_RS, 0.25, draws, generator, confidence)


def profile_band(
    scores_RT: np.ndarray, threshold_X: np.ndarray, draws: int, generator: np.random.RandomState, confidence: float
) -> Band:
    """`performance_profile` and its bounds, (X,) each, as `iqm_band`'s."""
    return _band((scores_RT[..., None] > threshold_X).mean(1), 0.0, draws, generator, confidence)


def _band(curve_RS: np.ndarray, cut: float, draws: int, generator: np.random.RandomState, confidence: float) -> Band:
    """Of the mean over runs without that share of them at each end."""
    runs = len(curve_RS)
    mean_S = stats.trim_mean(curve_RS, cut, axis=0)
    if runs < 2:
        return mean_S, np.full_like(mean_S, np.nan), np.full_like(mean_S, np.nan)
    drawn_DRS = curve_RS[generator.randint(runs, size=(draws, runs))]
    low_S, high_S = np.quantile(
        stats.trim_mean(drawn_DRS, cut, axis=1), [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0
    )
    return mean_S, low_S, high_S
