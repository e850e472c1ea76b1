"""Whether other seeds would have put the arms in the same order.

Shape legend: A arms, R runs (seeds) of one of them, which may differ in number, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grip_core.statistics.verdict import ROUNDING


@dataclass(frozen=True)
class RankStability:
    """What resampled seeds make of the arms' order."""

    first_A: np.ndarray
    """Share of draws in which an arm has the highest mean; arms that tie share a draw, so it sums to 1."""
    tau: float
    """Mean over draws of Kendall's tau between the order of all seeds and that of the draw; 1 if it never changes."""


def rank_stability(
    scores_A: Sequence[np.ndarray], draws: int, generator: np.random.RandomState, same_seeds: bool = False
) -> RankStability:
    """Arms ranked by their mean score over seeds, drawn anew with replacement: with `same_seeds` the same for all arms,
    otherwise from each arm's (R,) by themselves.

    Descriptive only; no verdict may rest on it. A draw's spread is that of the seeds times sqrt((R - 1) / R), so with
    3 seeds the order looks steadier than it is, and an arm with one seed does not move at all.
    """
    sizes = [len(scores_R) for scores_R in scores_A]
    if same_seeds:
        drawn = [generator.randint(sizes[0], size=(draws, sizes[0]))] * len(sizes)
    else:
        drawn = [generator.randint(size, size=(draws, size)) for size in sizes]
    means_DA = np.stack([scores_R[drawn_DR].mean(1) for scores_R, drawn_DR in zip(scores_A, drawn, strict=True)], 1)
    first_DA = means_DA >= means_DA.max(1, keepdims=True) - ROUNDING
    mean_A = np.array([scores_R.mean() for scores_R in scores_A])
    return RankStability((first_DA / first_DA.sum(1, keepdims=True)).mean(0), float(kendall(mean_A, means_DA).mean()))


def kendall(mean_A: np.ndarray, means_DA: np.ndarray) -> np.ndarray:
    """(D,): Kendall's tau-b of one ranking with each of several (Kendall 1945, Biometrika 33).

    Over pairs of arms, sum of sign * sign / sqrt(pairs that differ in one * pairs that differ in the other). It is 0,
    not undefined, where all arms tie in either: such a ranking says nothing of the order.
    """
    one_P, other_DP = _signs(mean_A), _signs(means_DA)
    scale_D = np.sqrt((one_P**2).sum() * (other_DP**2).sum(1))
    return other_DP @ one_P / np.maximum(scale_D, 1.0)


def _signs(mean_XA: np.ndarray) -> np.ndarray:
    """Which arm of each pair is ahead: 1, -1, or 0 if they differ by rounding only."""
    first_P, second_P = np.triu_indices(mean_XA.shape[-1], 1)
    difference_XP = mean_XA[..., first_P] - mean_XA[..., second_P]
    return np.where(np.abs(difference_XP) > ROUNDING, np.sign(difference_XP), 0.0)
