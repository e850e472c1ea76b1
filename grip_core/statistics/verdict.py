"""What an interval of a difference allows to be said."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["better", "worse", "undecided"]


ROUNDING = 1e-9  # of sums of shares: methods that give the same answers differ by less, others by more


def verdict(low: float, high: float) -> Verdict:
    """Better or worse only if the whole interval lies on one side of zero. Bounds that are NaN decide nothing."""
    if low > ROUNDING:
        return "better"
    return "worse" if high < -ROUNDING else "undecided"
