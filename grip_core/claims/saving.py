"""The share of a peer's time that a method saves where both are as accurate as the unpruned model, but for a margin.

Shape legend: K budgets, ascending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np

from grip_core.statistics.equal_accuracy import SmallestBudget, ratio_interval, smallest_budget
from grip_core.statistics.intervals import Comparison, Interval

STEPS = 24  # halvings of log10 alpha in [SMALLEST, 0]
SMALLEST = -8.0


@dataclass(frozen=True)
class Curve:
    """A method at its budgets below `n_visual`: its difference from the unpruned model, and its seconds an answer.

    Times may be measured at other budgets than answers, by tokens and ascending; the last is the unpruned model's, for
    who needs every token does not prune. The unpruned model itself is a curve without budgets.
    """

    n_visual: int
    budgets: tuple[int, ...]
    differences: tuple[Comparison, ...]
    seconds: Mapping[int, float]

    def enough(self, margin: float, confidence: float) -> SmallestBudget:
        """The smallest budget within `margin` of the unpruned model."""
        if not self.budgets:
            return SmallestBudget(self.n_visual, self.n_visual, self.n_visual, is_bound=False)
        intervals = [item.interval(confidence) for item in self.differences]
        effect_K, low_K, high_K = np.array([(item.effect, item.low, item.high) for item in intervals]).T
        return smallest_budget(np.array(self.budgets), effect_K, low_K, high_K, margin, self.n_visual)

    def may_need_fewer(self, enough: SmallestBudget) -> bool:
        """Whether the low end of a smallest budget is at or below the smallest of which answers and time are known."""
        smallest = max(self.budgets[0], min(self.seconds)) if self.budgets else 0
        return smallest > 1 and enough.low <= smallest

    def cost(self, k: float) -> float:
        """Seconds at a budget, linear between those measured. Noise must not make more tokens faster."""
        return float(np.interp(k, list(self.seconds), list(accumulate(self.seconds.values(), max))))

    def cheapest(self, k: float) -> float:
        """As `cost`, but no more than the unpruned model's: where choosing costs more than it saves, nobody prunes."""
        return min(self.cost(k), self.seconds[self.n_visual])


@dataclass(frozen=True)
class Saving:
    """1 - seconds(own) / seconds(other), each at its smallest budget of equal accuracy; the times are taken as known.

    A method that is accurate enough at the smallest budget measured may be so at fewer tokens, at unknown cost. An end
    of the interval that rests on such a budget is open: -inf where it is the peer's, 1 (all the time) where its own.
    """

    own: Curve
    other: Curve
    margin: float
    n: int

    def interval(self, confidence: float) -> Interval:
        """Two-sided; a method's own budgets err with half of what remains to `confidence`, or with all of it where the
        peer is the unpruned model."""
        each = (1 + confidence) / 2 if self.other.budgets else confidence
        own, other = (curve.enough(self.margin, each) for curve in (self.own, self.other))
        ratio = ratio_interval(own, other, self.own.cost, self.other.cheapest)
        low = float("-inf") if self.other.may_need_fewer(other) else 1 - ratio.high
        high = 1.0 if self.own.may_need_fewer(own) else 1 - ratio.low
        return Interval(1 - ratio.ratio, low, high, self.n)

    def p_value(self, null: float) -> float:
        """The largest alpha whose interval holds `null`, by halving: the intervals are nested, but jump."""
        holds = partial(self._holds, null)
        if holds(0.0):
            return 1.0
        low, high = SMALLEST, 0.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return float(10**high)

    def _holds(self, null: float, log_alpha: float) -> bool:
        interval = self.interval(1 - 10**log_alpha)
        return interval.low <= null <= interval.high
