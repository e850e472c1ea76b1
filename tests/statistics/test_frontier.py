from __future__ import annotations

import math

import numpy as np
import pytest

from grip_core.seeds import numpy_random
from grip_core.statistics.frontier import hypervolume, hypervolume_difference
from grip_core.statistics.intervals import compare

COSTS = np.array([1.0, 3.0, 10.0, 40.0])
RANGE = (1.0, 100.0)


@pytest.mark.parametrize(
    ("cost", "score", "golden"),
    [
        ([1.0, 10.0], [0.5, 0.8], 0.45),  # .5 for half of the range and .8 for the other half, less .2
        ([10.0, 1.0], [0.8, 0.5], 0.45),  # in any order
        ([0.01, 10.0], [0.5, 0.8], 0.45),  # what is cheaper than the range is there from its start
        ([10.0, 1000.0], [0.8, 0.9], 0.3),  # nothing to be had in the first half; the dear one never is
        ([1.0, 10.0], [0.5, 0.3], 0.3),  # who pays more need not take less
        ([1.0, 10.0], [0.1, 0.8], 0.3),  # worse than the floor is the floor
        ([10.0, 10.0], [0.8, 0.6], 0.3),
        ([10.0, 10.0], [0.6, 0.8], 0.3),
        ([200.0], [0.9], 0.0),
    ],
)
def test_hypervolume_by_hand(cost, score, golden):
    assert hypervolume(np.array(cost), np.array(score), RANGE, 0.2) == pytest.approx(golden)


def test_hypervolume_is_the_mean_over_a_fine_grid_of_log_costs():
    random = numpy_random(0, "points")
    cost, score_AK = np.exp(random.uniform(-1, 6, 9)), random.rand(4, 9)
    grid = np.exp((np.arange(20_000) + 0.5) / 20_000 * math.log(100))
    affordable = cost <= grid[:, None]
    golden_A = [np.where(affordable, score, -1.0).max(1).clip(0.3).mean() - 0.3 for score in score_AK]
    np.testing.assert_allclose(hypervolume(cost, score_AK, RANGE, 0.3), golden_A, atol=1e-4)


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.0), (3.0, 2.0)])
def test_the_range_of_costs_must_ascend(wrong):
    with pytest.raises(ValueError, match="range of costs"):
        hypervolume(COSTS, COSTS, wrong, 0.0)


def brute_force(own, theirs, image, stratum, floor):
    """Effect, and jackknife variances over images and both methods' seeds, by computing everything anew each time."""

    def effect(own_seeds, their_seeds, kept):
        volumes = []
        for cost, scores in ((COSTS, own[own_seeds]), (2 * COSTS[:3], theirs[their_seeds])):
            curve = np.mean([scores[..., kept & (stratum == h)].mean((0, 2)) for h in np.unique(stratum)], axis=0)
            volumes.append(hypervolume(cost, curve, RANGE, floor))
        return volumes[0] - volumes[1]

    seeds, others, everything = np.arange(len(own)), np.arange(len(theirs)), np.ones(len(image), bool)
    over_images = 0.0
    for h in np.unique(stratum):
        names = np.unique(image[stratum == h])
        without = [effect(seeds, others, ~((stratum == h) & (image == name))) for name in names]
        over_images += (len(names) - 1) * np.var(without)
    over_own = (len(seeds) - 1) * np.var([effect(seeds != s, others, everything) for s in seeds])
    over_others = (len(others) - 1) * np.var([effect(seeds, others != s, everything) for s in others])
    return effect(seeds, others, everything), over_images, over_own, over_others


@pytest.mark.parametrize("floor", [0.0, 0.5])  # at 0.5 part of each curve is below, where a lost image may tip it over
def test_the_jackknife_is_the_brute_force_one(floor):
    random = numpy_random(1, "scores")
    stratum = np.repeat([0, 1, 2], [12, 20, 7])
    image = random.randint(5, size=39)  # unequal numbers of questions, names shared by strata
    own, theirs = random.rand(3, 4, 39), random.rand(2, 3, 39)
    found = hypervolume_difference(COSTS, own, 2 * COSTS[:3], theirs, image, stratum, RANGE, floor)
    effect, *variances = brute_force(own, theirs, image, stratum, floor)
    assert found.effect == pytest.approx(effect)
    assert [part.variance for part in found.parts] == pytest.approx(variances)
    assert [part.df for part in found.parts] == [found.n - 3, 2, 1]


def test_one_budget_over_the_whole_range_is_the_plain_comparison():
    random = numpy_random(2, "scores")
    own, theirs = random.rand(3, 24), random.rand(1, 24)
    image, stratum = np.arange(24) // 2, np.arange(24) // 8
    cost = np.array([1.0])
    found = hypervolume_difference(cost, own[:, None], cost, theirs[:, None], image, stratum, RANGE, 0.0)
    golden = compare(own, theirs, image, stratum)
    assert (found.effect, found.n) == (pytest.approx(golden.effect), golden.n)
    np.testing.assert_allclose(found.parts, golden.parts)


@pytest.mark.parametrize(("seeds", "others"), [(3, 1), (3, 3), (5, 5)])
@pytest.mark.parametrize("rise", [0.0, 0.1])  # of the curve per budget; a flat one is where the maximum picks noise
def test_equal_frontiers_seldom_look_different(seeds, others, rise):
    random, trials, false = numpy_random(3, f"{seeds}/{others}/{rise}"), 300, 0
    image, stratum = np.repeat(np.arange(40), 3), np.repeat([0, 1], [60, 60])
    curve = 0.4 + rise * np.arange(4)[:, None]

    def scores(count: int) -> np.ndarray:
        liking = 0.2 * random.randn(4, 40)[:, image]
        spread = 0.02 * (count > 1) * random.randn(count, 4, 1)
        return curve + liking + spread + 0.2 * random.randn(count, 4, 120)

    for _ in range(trials):
        found = hypervolume_difference(COSTS, scores(seeds), COSTS, scores(others), image, stratum, RANGE, 0.1)
        false += found.p_value() <= 0.05
    assert false / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_a_cheaper_method_has_the_larger_hypervolume():
    random = numpy_random(4, "scores")
    scores = 0.4 + 0.1 * np.arange(4)[:, None] + 0.1 * random.randn(3, 4, 120)
    found = hypervolume_difference(COSTS, scores, 2 * COSTS, scores, np.arange(120), np.zeros(120), RANGE, 0.1)
    assert found.interval(0.95).low > 0.02


def test_scores_must_match():
    with pytest.raises(ValueError, match="6 and 5 scores"):
        hypervolume_difference(
            COSTS, np.zeros((1, 4, 6)), COSTS, np.zeros((1, 4, 5)), np.arange(6), np.zeros(6), RANGE, 0.0
        )
