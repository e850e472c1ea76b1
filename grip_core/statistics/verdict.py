"""What an interval of a difference allows to be said."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["better", "worse", "undecided"]


def verdict(low: float, high: float) -> Verdict:
    """Better or worse only if the whole interval lies on one side of zero. Bounds that are NaN decide nothing."""
    if low > 0.0:
        return "better"
    return "worse" if high < 0.0 else "undecided"
