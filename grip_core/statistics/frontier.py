"""Trade-offs between cost and score: the best score for the money, on average over costs.

Shape legend: K budgets of one method, J budgets of another, S and R their seeds, E examples, C images, H strata. Costs
are positive and taken as known (FLOPs, or times whose noise is stated elsewhere).
"""

from __future__ import annotations

import math

import numpy as np

from grip_core.statistics.clusters import Clusters, find_clusters
from grip_core.statistics.intervals import Comparison, Part


def hypervolume(
    cost_K: np.ndarray, score_K: np.ndarray, cost_range: tuple[float, float], score_floor: float
) -> np.ndarray:
    """Mean, over log cost between the range's ends, of the best score at or below that cost, minus the floor.

    So it is the dominated area with the reference point (range's end, floor), divided by the range's length: in the
    scores' unit. What is not affordable, or below the floor, counts as the floor. `score_K` may have axes before K,
    which the result keeps. Raises ValueError unless 0 < cost_range[0] < cost_range[1].
    """
    low, high = cost_range
    if not 0 < low < high:
        raise ValueError(f"the range of costs must be positive and ascending, but got {low} to {high}")
    order_K = np.argsort(cost_K)
    gain_K = np.maximum(np.maximum.accumulate(score_K[..., order_K], axis=-1), score_floor) - score_floor
    # A running maximum holds from its point's cost to the next one's; a point outside of the range moves to its end.
    width_K = np.diff(np.log(np.clip(np.append(cost_K[order_K], high), low, high)))
    return gain_K @ width_K / math.log(high / low)


def hypervolume_difference(
    cost_K: np.ndarray,
    score_SKE: np.ndarray,
    other_cost_J: np.ndarray,
    other_RJE: np.ndarray,
    image_E: np.ndarray,
    stratum_E: np.ndarray,
    cost_range: tuple[float, float],
    score_floor: float,
) -> Comparison:
    """Difference of two methods' hypervolumes on the same examples, with the parts of its variance as in `compare`.

    A method's curve is its mean score at each budget, over seeds and over examples so that strata weigh the same; the
    hypervolume is that of this curve, not the mean of the seeds' own, whose noise the running maximum would collect.
    What is left of that bias favours the noisier method where curves are flat; in simulations with 3 seeds it came to a
    quarter of the effect's standard deviation and false verdicts stayed rare.
    The variance over images is the stratified delete-one-cluster jackknife, both methods losing the image together,

        sum over strata h of (C_h - 1) / C_h * sum over h's images c of (theta_without_c - mean_h theta_without)^2

    and that over each method's seeds the same with seeds in place of images (Shao and Tu 1995, chapter 2). With one
    budget and images of equal size this is `compare`.

    Raises ValueError when the examples disagree in number, a stratum has fewer than two images, or as `hypervolume`.
    """
    if not score_SKE.shape[2] == other_RJE.shape[2] == len(image_E) == len(stratum_E):
        raise ValueError(
            f"both methods need a score for every example, but got {score_SKE.shape[2]} and {other_RJE.shape[2]} "
            f"scores, {len(image_E)} images and {len(stratum_E)} strata"
        )
    clusters = find_clusters(image_E, stratum_E)
    effect, without_C, seed_parts = 0.0, np.zeros(clusters.images), []
    for sign, cost, scores in ((1, cost_K, score_SKE), (-1, other_cost_J, other_RJE)):
        curves_SK = scores @ clusters.weight_E
        without_CK = _means_without_an_image(scores.mean(0), clusters)
        effect += sign * float(hypervolume(cost, curves_SK.mean(0), cost_range, score_floor))
        without_C += sign * hypervolume(cost, without_CK, cost_range, score_floor)
        if (seeds := len(curves_SK)) > 1:
            without_SK = (curves_SK.sum(0) - curves_SK) / (seeds - 1)
            without_S = hypervolume(cost, without_SK, cost_range, score_floor)
            seed_parts.append(Part(_jackknife_variance(without_S, np.zeros(seeds, int)), seeds - 1))
    images = Part(_jackknife_variance(without_C, clusters.stratum_C), clusters.df)
    return Comparison(effect, (images, *seed_parts), clusters.images)


def _means_without_an_image(score_KE: np.ndarray, clusters: Clusters) -> np.ndarray:
    """Mean score at each budget, strata weighing the same, with each image left out in turn, (C, K)."""
    sum_CK = _sums(score_KE.T, clusters.cluster_E)
    sum_HK = _sums(sum_CK, clusters.stratum_C)
    size_C = np.bincount(clusters.cluster_E)
    mean_HK = sum_HK / clusters.size_H[:, None]
    stratum_C = clusters.stratum_C
    without_CK = (sum_HK[stratum_C] - sum_CK) / (clusters.size_H[stratum_C] - size_C)[:, None]
    return mean_HK.mean(0) + (without_CK - mean_HK[stratum_C]) / len(mean_HK)


def _sums(values_EK: np.ndarray, group_E: np.ndarray) -> np.ndarray:
    sum_CK = np.zeros((group_E.max() + 1, values_EK.shape[1]))
    np.add.at(sum_CK, group_E, values_EK)
    return sum_CK


def _jackknife_variance(without_C: np.ndarray, stratum_C: np.ndarray) -> float:
    count_H = np.bincount(stratum_C)
    mean_H = np.bincount(stratum_C, without_C) / count_H
    square_C = (without_C - mean_H[stratum_C]) ** 2
    return float((np.bincount(stratum_C, square_C) * (count_H - 1) / count_H).sum())
