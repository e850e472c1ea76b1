"""How many runs are still sound after so many steps, and how sure that is with a handful of them.

Shape legend: R runs, T rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from grip_core.statistics.intervals import Interval


@dataclass(frozen=True)
class Survival:
    """A step function, which holds from each row's step to the next one's. Bounds are pointwise."""

    step_T: np.ndarray
    """0, and every step at which a run collapsed or ended, ascending."""
    at_risk_T: np.ndarray
    """Runs that had neither collapsed nor ended before that step."""
    surviving_T: np.ndarray
    """Estimated share that has not collapsed up to that step, that step included."""
    low_T: np.ndarray
    high_T: np.ndarray


def wilson_interval(count: int, n: int, confidence: float) -> Interval:
    """Score interval of a share, here of runs (Wilson 1927, Journal of the American Statistical Association 22).

    Unlike the one of plus or minus standard errors it has a width at 0 and at n, which is where few runs mostly are:
    0 of 5 collapsed is compatible with 43 % at 95 %. Raises ValueError unless 0 <= count <= n and n > 0.
    """
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"a share needs 0 to n of at least one, but got {count} of {n}")
    low, high = _wilson(np.array(count / n), np.array(n), confidence)
    return Interval(count / n, float(low), float(high), n)


def kaplan_meier(step_R: np.ndarray, collapsed_R: np.ndarray, confidence: float) -> Survival:
    """Product-limit estimate of survival (Kaplan and Meier 1958, Journal of the American Statistical Association 53).

    `step_R` is where a run collapsed, or else where it ended (is censored); a run that ends at the very step another
    collapses at was still at risk. The bounds are Wilson's, with the number of runs that would give Greenwood's
    variance were none of them censored (Rothman 1978, Journal of Chronic Diseases 31): S (1 - S) / var(S). If none was,
    that is the number of runs, and the interval Wilson's own; while none has collapsed, it is the number at risk.
    Bounds from the logarithm of -log S would not exist at 1, where most arms are.
    Raises ValueError without runs, or if a step is not positive (NaN included).
    """
    if not len(step_R) or not (step_R > 0).all():
        raise ValueError(f"survival needs runs that ended after step 0, but got steps {step_R.tolist()}")
    step_T = np.unique(np.append(step_R, 0))
    at_risk_T = (step_R >= step_T[:, None]).sum(1)
    collapses_T = ((step_R == step_T[:, None]) & collapsed_R).sum(1)
    surviving_T = np.cumprod(1 - collapses_T / at_risk_T)
    runs_T = _effective_runs(at_risk_T, collapses_T, surviving_T)
    low_T, high_T = _wilson(surviving_T, runs_T, confidence)
    return Survival(step_T, at_risk_T, surviving_T, low_T, high_T)


def _effective_runs(at_risk_T: np.ndarray, collapses_T: np.ndarray, surviving_T: np.ndarray) -> np.ndarray:
    # ratio = var(S) / S = S sum d / (n (n - d)), as a recursion that does not divide by zero where all have collapsed.
    runs_T = at_risk_T.astype(float)
    ratio, before = 0.0, 1.0
    for t, (n, d, surviving) in enumerate(zip(at_risk_T, collapses_T, surviving_T)):
        ratio = ratio * (1 - d / n) + before * d / n**2
        before = surviving
        if ratio > 0:
            runs_T[t] = (1 - surviving) / ratio
    return runs_T


def _wilson(share_T: np.ndarray, n_T: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    z = stats.norm.ppf(0.5 + confidence / 2)
    scale_T = 1 + z**2 / n_T
    center_T = (share_T + z**2 / (2 * n_T)) / scale_T
    half_T = z * np.sqrt(share_T * (1 - share_T) / n_T + z**2 / (4 * n_T**2)) / scale_T
    return np.maximum(center_T - half_T, 0.0), np.minimum(center_T + half_T, 1.0)
