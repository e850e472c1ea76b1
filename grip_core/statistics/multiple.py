"""Several claims at once: the chance that any of them is wrong stays below the level.

Shape legend: M comparisons of one family. Nothing is assumed of how they depend on each other.
"""

from __future__ import annotations

import numpy as np


def holm(p_M: np.ndarray) -> np.ndarray:
    """Adjusted p-values, (M,), in the order given (Holm 1979, Scandinavian Journal of Statistics 6).

    The j-th smallest of M is multiplied by M - j + 1, raised to at least the one before it and cut at 1. Claiming
    whatever is at most alpha makes any false claim with probability at most alpha. Raises ValueError for a value that
    is no probability, NaN included.
    """
    p_M = np.asarray(p_M, dtype=float)
    if not ((p_M >= 0) & (p_M <= 1)).all():
        raise ValueError(f"p-values must lie between 0 and 1, but got {p_M.tolist()}")
    order_M = np.argsort(p_M, kind="stable")
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order_M] = np.minimum(np.maximum.accumulate(p_M[order_M] * np.arange(len(p_M), 0, -1)), 1.0)
    return adjusted_M


def holm_levels(p_M: np.ndarray, alpha: float) -> np.ndarray:
    """The level, (M,), at which Holm tests each comparison: alpha / (M - j + 1) for the j-th smallest p-value if it is
    claimed, alpha over the number of those not claimed for all the others.

    The interval of confidence 1 - level excludes the null exactly if Holm's adjusted p-value is at most alpha, so that
    intervals and verdicts agree. They do not cover their effects all at once, as Bonferroni's would.
    """
    p_M = np.asarray(p_M, dtype=float)
    claimed_M = holm(p_M) <= alpha
    rank_M = np.argsort(np.argsort(p_M, kind="stable"), kind="stable")
    left = len(p_M) - np.where(claimed_M, rank_M, claimed_M.sum())
    return alpha / left
