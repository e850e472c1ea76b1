"""How few tokens are enough: the smallest budget at which a method is within a margin of the full model.

Shape legend: K budgets, ascending. A curve is a method's accuracy minus the full model's, linear in log k between the
budgets measured. At k = N, every token, the difference is exactly 0, since the model is then the full one; that is a
point of every curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SmallestBudget:
    """Tokens kept, not rounded, with the interval's ends."""

    k: float
    low: float
    high: float
    is_bound: bool
    """Whether k is the smallest budget measured, which was already enough: the truth may be below."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of costs with its confidence bounds."""

    ratio: float
    low: float
    high: float


def smallest_budget(
    k_K: np.ndarray, effect_K: np.ndarray, low_K: np.ndarray, high_K: np.ndarray, margin: float, n: int
) -> SmallestBudget:
    """The smallest k from which on the curve stays at or above -margin, from differences to the full model with their
    intervals; `n` is the number of all tokens.

    A curve need not be monotone: what is lost again at a larger budget was not yet enough. The estimate is the point
    from which on `effect` stays above; the upper end that from which on `low` does; the lower end is the first at which
    `high` gets there. So intervals that cover at each budget give one that covers as often for k, with no correction
    for their number: it misses only if, at the true k, the difference's own interval misses -margin on that side.

    Raises ValueError unless the margin is positive, 0 < k_K ascending < n, and low <= effect <= high.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, but got {margin}")
    if not (k_K[0] > 0 and (np.diff([*k_K, n]) > 0).all()):
        raise ValueError(f"budgets must be positive, ascending and below all {n} tokens, but got {list(k_K)}")
    if not ((low_K <= effect_K) & (effect_K <= high_K)).all():
        raise ValueError("each difference must lie within its interval")
    k_K = np.append(k_K, n)
    # Heights above -margin; the last point is the full model's.
    effect_K, low_K, high_K = (np.append(curve_K, 0.0) + margin for curve_K in (effect_K, low_K, high_K))
    return SmallestBudget(
        k=_stays_from(k_K, effect_K),
        low=_reached_at(k_K, high_K),
        high=_stays_from(k_K, low_K),
        is_bound=bool((effect_K >= 0).all()),
    )


def ratio_interval(
    own: SmallestBudget,
    other: SmallestBudget,
    own_cost: Callable[[float], float],
    other_cost: Callable[[float], float],
) -> Ratio:
    """own_cost(own.k) / other_cost(other.k): what a method costs where two are equally accurate, over what the other
    does. Costs are positive and do not fall as k grows; each method has its own, since choosing tokens costs too.

    The ends are own.low over other.high and own.high over other.low, whatever the dependence of the two budgets: if
    each of their intervals misses with probability alpha, this one does with at most 2 alpha (Bonferroni), so build
    them with confidence 1 - alpha / 2. A budget that is a bound makes the ratio one.
    """
    return Ratio(
        ratio=own_cost(own.k) / other_cost(other.k),
        low=own_cost(own.low) / other_cost(other.high),
        high=own_cost(own.high) / other_cost(other.low),
    )


def _stays_from(k_K: np.ndarray, height_K: np.ndarray) -> float:
    """The smallest k from which on the curve stays at or above 0."""
    below = np.flatnonzero(height_K < 0)
    return _crossing(k_K, height_K, int(below[-1])) if len(below) else float(k_K[0])


def _reached_at(k_K: np.ndarray, height_K: np.ndarray) -> float:
    """The smallest k at which the curve is at or above 0."""
    first = int(np.argmax(height_K >= 0))
    return _crossing(k_K, height_K, first - 1) if first else float(k_K[0])


def _crossing(k_K: np.ndarray, height_K: np.ndarray, i: int) -> float:
    """Where the curve, below 0 at point i and not at the next, crosses 0: linear in log k."""
    fraction = height_K[i] / (height_K[i] - height_K[i + 1])
    return float(k_K[i] * (k_K[i + 1] / k_K[i]) ** fraction)
