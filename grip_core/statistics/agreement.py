"""Whether seeds that score alike also keep the same tokens.

Shape legend: E examples, N visual tokens, k of which are kept.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def jaccard(kept_EN: np.ndarray, other_EN: np.ndarray) -> np.ndarray:
    """(E,): tokens that both keep, as a share of those that either keeps (Jaccard 1912, New Phytologist 11).

    Of boolean arrays; two empty sets agree fully.
    """
    either_E = (kept_EN | other_EN).sum(-1)
    return np.where(either_E > 0, (kept_EN & other_EN).sum(-1) / np.maximum(either_E, 1), 1.0)


def chance_level(k: int, n: int) -> float:
    """Expected Jaccard index of two sets of k of n tokens drawn at random, each by itself.

    They share m tokens with hypergeometric probability, and then the index is m / (2 k - m). It is 1 at k = n, so that
    agreement at large budgets says little. Raises ValueError unless 1 <= k <= n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"a set needs 1 to n tokens, but got {k} of {n}")
    shared = np.arange(k + 1)
    return float(stats.hypergeom.pmf(shared, n, k, k) @ (shared / (2 * k - shared)))
