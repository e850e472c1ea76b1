"""Confidence intervals of means and of paired differences, sound with few seeds.

Shape legend: S seeds of one method, R seeds of another, E examples. Scores are any numbers with a mean, here shares in
[0, 1]. Student's t, not the bootstrap: with 3 to 10 runs a percentile bootstrap is wrong far more often than it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from grip_core.statistics.clusters import Clusters, find_clusters
from grip_core.statistics.verdict import ROUNDING


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence bounds, in the unit of the scores. `n` counts the independent units behind it."""

    effect: float
    low: float
    high: float
    n: int


class Part(NamedTuple):
    """One independent source of an effect's variance, and the degrees of freedom it was estimated with."""

    variance: float
    df: int


@dataclass(frozen=True)
class Comparison:
    """An effect and the parts of its variance; `n` is the number of images.

    Each part V_j keeps its own quantile: effect +- sqrt(sum_j t(df_j)^2 V_j), which covers at least as often as it says
    (Banerjee 1960, Sankhya 22). Welch-Satterthwaite degrees of freedom are narrower, but gave up to 12 % false verdicts
    at a nominal 5 % with two seeds, because a spread that is small by chance hides the seeds' few degrees.
    """

    effect: float
    parts: tuple[Part, ...]
    n: int

    def interval(self, confidence: float) -> Interval:
        """Two-sided interval of the effect."""
        half = self._half_width(1 - confidence)
        return Interval(self.effect, self.effect - half, self.effect + half, self.n)

    def p_value(self, null: float = 0.0) -> float:
        """The alpha at which the interval of confidence 1 - alpha just touches `null`, so that the p-value is below
        alpha exactly if the interval excludes `null`. It is 1 if the effect is `null` but for rounding; otherwise 0 if
        nothing varies, or below 1e-300."""
        distance = abs(self.effect - null)
        if distance <= ROUNDING:
            return 1.0
        varying = [part for part in self.parts if part.variance > 0.0]
        if not varying:
            return 0.0
        # The largest part alone is too narrow, and all parts as wide as the widest of them are too wide.
        lower, upper = (
            max(2 * special.stdtr(df, -distance / (times * variance) ** 0.5) for variance, df in varying)
            for times in (1, len(varying))
        )
        lower, upper = max(0.999 * lower, 1e-300), min(1.001 * upper, 1.0)
        if self._half_width(lower) < distance:
            return 0.0
        # In log alpha the half width is nearly straight.
        root = optimize.brentq(lambda log: self._half_width(math.exp(log)) - distance, math.log(lower), math.log(upper))
        return math.exp(root)

    def _half_width(self, alpha: float) -> float:
        # Student's quantile from special: root finding asks often, and stats would check its arguments each time.
        return math.hypot(*(special.stdtrit(df, alpha / 2) * variance**0.5 for variance, df in self.parts))


def mean_interval(values_S: np.ndarray, confidence: float) -> Interval:
    """Student's t interval of a mean over S seeds; a single seed says nothing of the spread, so its bounds are NaN."""
    mean, count = float(np.mean(values_S)), len(values_S)
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), count)
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1) * np.std(values_S, ddof=1) / count**0.5)
    return Interval(mean, mean - half, mean + half, count)


def score_interval(scores_SE: np.ndarray, image_E: np.ndarray, stratum_E: np.ndarray, confidence: float) -> Interval:
    """Interval of a method's mean score over new seeds and new images: its difference from a score of zero."""
    return paired_difference(scores_SE, np.zeros((1, scores_SE.shape[1])), image_E, stratum_E, confidence)


def paired_difference(
    scores_SE: np.ndarray, other_RE: np.ndarray, image_E: np.ndarray, stratum_E: np.ndarray, confidence: float
) -> Interval:
    """Interval of the mean difference between two methods on the same examples; see `compare`."""
    return compare(scores_SE, other_RE, image_E, stratum_E).interval(confidence)


def compare(
    scores_SE: np.ndarray,
    other_RE: np.ndarray,
    image_E: np.ndarray,
    stratum_E: np.ndarray,
    same_seeds: bool = False,
) -> Comparison:
    """The mean difference between two methods on the same examples, with the parts of its variance.

    Every stratum (benchmark) weighs the same: w_i = 1 / (strata x examples in i's stratum). With d_i the difference of
    example i, averaged over each method's seeds, the effect is sum_i w_i d_i and its variance

        V_1 + V_2 + V_3 = var(seed means of scores) / S  +  var(seed means of other) / R
            +  sum over strata h of C_h / (C_h - 1) * sum over h's images c of (sum_{i in c} w_i (d_i - mean_h d))^2

    with C_h images in stratum h. Examples are paired. Seeds are with `same_seeds`, where row s of both is of one seed,
    which draws the same for both (common random numbers; Bouthillier et al. 2021, arXiv 2103.03098): then
    var(seed means of scores - other) / S takes the place of V_1 + V_2. Otherwise seed 0 of two methods share nothing. A
    method with one seed (a deterministic one, or a given checkpoint) has no seed variance: it is taken as it is.
    The noise of seed and example together is in the first and the last part, so the sum errs on the large side.
    The last part is the usual cluster-robust variance (Liang and Zeger 1986), with sum_h (C_h - 1) degrees of freedom.

    Raises ValueError when the examples disagree in number, or the seeds that are to be the same, or a stratum has fewer
    than two images.
    """
    if not scores_SE.shape[1] == other_RE.shape[1] == len(image_E) == len(stratum_E):
        raise ValueError(
            f"both methods need a score for every example, but got {scores_SE.shape[1]} and {other_RE.shape[1]} "
            f"scores, {len(image_E)} images and {len(stratum_E)} strata"
        )
    if same_seeds and len(scores_SE) != len(other_RE):
        raise ValueError(f"the seeds of both must be the same, but they are {len(scores_SE)} and {len(other_RE)}")
    clusters = find_clusters(image_E, stratum_E)
    weight_E = clusters.weight_E
    difference_E = scores_SE.mean(0) - other_RE.mean(0)
    images = Part(_cluster_variance(difference_E, clusters), clusters.df)
    own_S, other_R = scores_SE @ weight_E, other_RE @ weight_E
    means = (own_S - other_R,) if same_seeds else (own_S, other_R)
    seeds = [
        Part(float(np.var(means_S, ddof=1)) / len(means_S), len(means_S) - 1) for means_S in means if len(means_S) > 1
    ]
    return Comparison(float(weight_E @ difference_E), (images, *seeds), clusters.images)


def _cluster_variance(difference_E: np.ndarray, clusters: Clusters) -> float:
    """Variance of the weighted mean over images."""
    mean_H = np.bincount(clusters.stratum_E, difference_E) / clusters.size_H
    influence_E = clusters.weight_E * (difference_E - mean_H[clusters.stratum_E])
    influence_C = np.bincount(clusters.cluster_E, influence_E)
    variance_H = np.bincount(clusters.stratum_C, influence_C**2) * clusters.images_H / (clusters.images_H - 1)
    return float(variance_H.sum())
