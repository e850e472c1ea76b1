"""How much of the differences between runs is due to each factor of a grid, and how much to the seeds.

The functional analysis of variance of Hutter et al. 2014 (ICML, "An efficient approach for assessing hyperparameter
importance"), which is exact here: every cell of the grid was run, so no model of the scores is needed.

Shape legend: L... levels of each factor, an axis a factor; R runs (seeds) of every cell.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from grip_core.statistics.intervals import Interval, mean_interval

INTERACTIONS, SEEDS = "interactions", "seeds"


class Shares(NamedTuple):
    """Shares of the variance over the runs of a grid; they sum to 1."""

    factor_F: np.ndarray
    """Of each factor by itself."""
    interactions: float
    """Of all combinations of factors together, beyond what the factors do by themselves."""
    seeds: float
    """Of runs that differ in the seed alone."""


def shares(score: np.ndarray) -> Shares:
    """Of scores (L..., R). All are NaN if the scores are equal. Raises ValueError below two runs a cell.

    The part V_U that a set U of factors has in the variance of the cells' means, all cells weighing the same, is the
    variance of the means over the other factors less the parts of U's subsets. Seeds alone would give it
    s^2 / (R C) times U's degrees of freedom, C being the cells and s^2 the mean variance within them; that is taken
    away, and what is below zero counts as zero. So V_U is unbiased but for this cut, and seeds do not pass for factors.
    """
    runs = score.shape[-1]
    if runs < 2:
        raise ValueError(f"the seeds' share needs at least two runs a cell, but got {runs}")
    cells, factors = math.prod(score.shape[:-1]), score.ndim - 1
    within = float(score.var(axis=-1, ddof=1).mean())
    mean = score.mean(axis=-1)
    parts: dict[tuple[int, ...], float] = {}
    corrected: dict[tuple[int, ...], float] = {}
    for size in range(1, factors + 1):
        for own in combinations(range(factors), size):
            others = tuple(axis for axis in range(factors) if axis not in own)
            below = sum(part for subset, part in parts.items() if set(subset) < set(own))
            parts[own] = float(mean.mean(axis=others).var()) - below
            df = math.prod(score.shape[axis] - 1 for axis in own)
            corrected[own] = max(parts[own] - within * df / (runs * cells), 0.0)
    total = sum(corrected.values()) + within
    if total <= 0:
        return Shares(np.full(factors, math.nan), math.nan, math.nan)
    alone = np.array([corrected[factor,] for factor in range(factors)])
    return Shares(alone / total, float(sum(corrected.values()) - alone.sum()) / total, within / total)


def importances(score: np.ndarray, factors: list[str], confidence: float) -> dict[str, Interval]:
    """The shares of `factors`, of INTERACTIONS if there are two factors or more, and of SEEDS, by name.

    Intervals are Student's t over the jackknife's pseudo-values (Tukey 1958), a seed being left out in all cells at
    once, and are cut at 0 and 1. They describe; with few seeds they are wide. NaN below three runs a cell, where
    leaving one out leaves no spread.
    """
    runs = score.shape[-1]
    names = [*factors, *([INTERACTIONS] if len(factors) > 1 else []), SEEDS]
    whole = _by_name(shares(score), names)
    if runs < 3:
        return {name: Interval(value, math.nan, math.nan, runs) for name, value in whole.items()}
    without = [_by_name(shares(np.delete(score, run, axis=-1)), names) for run in range(runs)]
    found = {}
    for name, value in whole.items():
        pseudo_R = np.array([runs * value - (runs - 1) * one[name] for one in without])
        spread = mean_interval(pseudo_R, confidence)
        half = spread.high - spread.effect
        found[name] = Interval(value, max(value - half, 0.0), min(value + half, 1.0), runs)
    return found


def _by_name(found: Shares, names: list[str]) -> dict[str, float]:
    values = [*found.factor_F, *([found.interactions] if INTERACTIONS in names else []), found.seeds]
    return dict(zip(names, map(float, values), strict=True))
