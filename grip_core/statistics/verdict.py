"""What an interval allows to be said. Bounds that are NaN decide nothing."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["better", "worse", "undecided"]
ClaimVerdict = Literal["supported", "contradicted", "undecided"]


ROUNDING = 1e-9  # of sums of shares: methods that give the same answers differ by less, others by more


def verdict(low: float, high: float) -> Verdict:
    """Better or worse only if the whole interval of a difference lies on one side of zero."""
    said = superiority(low, high, 0.0)
    if said == "undecided":
        return "undecided"
    return "better" if said == "supported" else "worse"


def superiority(low: float, high: float, threshold: float) -> ClaimVerdict:
    """On the claim that an effect exceeds `threshold`: supported or contradicted only if the whole interval lies on
    one side of it. An interval that touches the threshold decides nothing, be it a single point."""
    if low > threshold + ROUNDING:
        return "supported"
    return "contradicted" if high < threshold - ROUNDING else "undecided"
