"""Comparisons that a claim is made of, and what they say together.

"Better than every peer" is an intersection-union test (Berger 1982): it fails to hold as soon as one peer is not
beaten, so each peer may be tested at the full level and the claim's own level is no larger, however many peers there
are. "Worse than some peer" is a union: with many peers one of them looks better by chance, so those p values are
Holm's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from grip_core.statistics.intervals import Interval
from grip_core.statistics.multiple import holm
from grip_core.statistics.verdict import ClaimVerdict, superiority

HARDEST_FIRST: tuple[ClaimVerdict, ...] = ("contradicted", "undecided", "supported")


class Estimate(Protocol):
    """An effect with intervals; its p value is the alpha at which that of confidence 1 - alpha just touches `null`."""

    def interval(self, confidence: float) -> Interval:
        """Two-sided."""
        ...

    def p_value(self, null: float) -> float:
        """Two-sided."""
        ...


@dataclass(frozen=True)
class Contrast:
    """A method against another; `k` names the budgets of both."""

    method: str
    other: str
    k: str
    estimate: Estimate


@dataclass(frozen=True)
class Compared:
    """A contrast that was tested against `bar`; effects and bounds in the unit of the claim.

    `p_value` is two-sided and of this contrast alone, `p_holm` is corrected for all of the claim's.
    """

    method: str
    other: str
    k: str
    effect: float
    low: float
    high: float
    n: int
    bar: float
    p_value: float
    p_holm: float
    verdict: ClaimVerdict


def compare_all(contrasts: Sequence[Contrast], bar: float, confidence: float) -> list[Compared]:
    """On the claim that each exceeds `bar`: supported by its own interval, contradicted after Holm over all."""
    p_M = np.array([contrast.estimate.p_value(bar) for contrast in contrasts])
    holm_M = holm(p_M) if contrasts else p_M
    return [
        _compared(contrast, bar, confidence, float(p), float(adjusted))
        for contrast, p, adjusted in zip(contrasts, p_M, holm_M, strict=True)
    ]


def hardest(compared: Sequence[Compared]) -> Compared:
    """The one that decides for all: the worst verdict, and among its equals the smallest effect."""
    return min(compared, key=lambda item: (HARDEST_FIRST.index(item.verdict), item.effect))


def _compared(contrast: Contrast, bar: float, confidence: float, p_value: float, p_holm: float) -> Compared:
    interval = contrast.estimate.interval(confidence)
    said = superiority(interval.low, interval.high, bar)
    if said == "contradicted" and p_holm > 1 - confidence:
        said = "undecided"
    return Compared(
        method=contrast.method,
        other=contrast.other,
        k=contrast.k,
        effect=interval.effect,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        bar=bar,
        p_value=p_value,
        p_holm=p_holm,
        verdict=said,
    )
