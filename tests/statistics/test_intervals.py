from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grip_core.statistics.intervals import mean_interval, paired_difference, score_interval


def _one_stratum(scores, other, image, confidence=0.95):
    return paired_difference(np.array(scores), np.array(other), np.array(image), np.zeros(len(image), int), confidence)


def test_mean_interval_by_hand():
    interval = mean_interval(np.array([1.0, 2.0, 3.0]), 0.95)
    assert (interval.effect, interval.n) == (2.0, 3)
    assert interval.high - 2.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t(2) at 97.5 %
    assert 2.0 - interval.low == pytest.approx(interval.high - 2.0)


def test_one_seed_has_no_bounds():
    interval = mean_interval(np.array([0.4]), 0.95)
    assert interval.effect == 0.4
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_deterministic_methods_on_single_questions_are_the_paired_t_test():
    random = np.random.RandomState(0)
    a, b = random.rand(40), random.rand(40)
    interval = _one_stratum([a], [b], np.arange(40), 0.9)
    golden = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((golden.low, golden.high))
    assert interval.n == 40


def test_clusters_by_hand():
    # d = 1, 0 | 0, 0: mean 1/4, influences (3, -1 | -1, -1) / 16, image sums +-1/8, V = 2/1 (1/64 + 1/64) = 1/16.
    interval = _one_stratum([[1.0, 0.0, 0.0, 0.0]], [[0.0] * 4], [0, 0, 1, 1])
    assert interval.effect == 0.25
    assert interval.high - interval.effect == pytest.approx(12.706205 / 4, rel=1e-6)  # t(1) at 97.5 %
    assert interval.n == 2


def test_seeds_alone_are_students_t():
    scores = np.repeat([[0.1], [0.3], [0.35]], 10, axis=1)
    interval = _one_stratum(scores, np.zeros((1, 10)), np.arange(10))
    golden = mean_interval(scores[:, 0], 0.95)
    assert (interval.effect, interval.low, interval.high) == pytest.approx((golden.effect, golden.low, golden.high))


def test_parts_add_with_their_own_quantiles():
    random = np.random.RandomState(1)
    a, b, image = random.rand(3, 30), random.rand(5, 30), np.arange(30)
    interval = _one_stratum(a, b, image)
    bounds = [
        stats.ttest_rel(a.mean(0), b.mean(0)).confidence_interval(0.95),
        stats.ttest_1samp(a.mean(1), 0).confidence_interval(0.95),
        stats.ttest_1samp(b.mean(1), 0).confidence_interval(0.95),
    ]
    half = sum(((item.high - item.low) / 2) ** 2 for item in bounds) ** 0.5
    assert interval.high - interval.effect == pytest.approx(half)


def test_a_comparator_without_seeds_may_be_repeated():
    random = np.random.RandomState(2)
    a, b, image = random.rand(3, 12), random.rand(1, 12), np.repeat(np.arange(4), 3)
    once, repeated = _one_stratum(a, b, image), _one_stratum(a, np.repeat(b, 3, axis=0), image)
    assert (once.effect, once.low, once.high) == pytest.approx((repeated.effect, repeated.low, repeated.high))


def test_benchmarks_weigh_the_same_and_name_their_own_images():
    scores = np.array([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    image, stratum = np.array([0, 1, 0, 1, 2, 3]), np.array(["a", "a", "b", "b", "b", "b"])
    interval = score_interval(scores, image, stratum, 0.95)
    assert interval.effect == 0.5  # the mean over examples is 1/3
    assert interval.n == 6


def test_images_answered_alike_widen_the_interval():
    random = np.random.RandomState(3)
    a, b = np.repeat(random.rand(1, 20), 4, axis=1), np.zeros((1, 80))
    clustered = _one_stratum(a, b, np.repeat(np.arange(20), 4))
    independent = _one_stratum(a, b, np.arange(80))
    assert clustered.high - clustered.low > 1.8 * (independent.high - independent.low)


@pytest.mark.parametrize("seed_spread", [0.0, 0.02, 0.2])
@pytest.mark.parametrize(("seeds", "others"), [(2, 1), (3, 5)])
def test_false_verdicts_stay_below_their_level(seed_spread, seeds, others):
    """No method is better; one seed-less comparator or several seeds; images shared by the questions."""
    random, trials, false = np.random.RandomState(4), 400, 0
    image = np.repeat(np.arange(40), 3)
    for _ in range(trials):
        liking = 0.1 * random.randn(2, 40)[:, image]  # what each method makes of an image, whatever its seed
        own = liking[0] + seed_spread * random.randn(seeds, 1) + 0.1 * random.randn(seeds, 120)
        spread = seed_spread if others > 1 else 0.0
        theirs = liking[1] + spread * random.randn(others, 1) + 0.1 * random.randn(others, 120)
        interval = _one_stratum(own, theirs, image)
        false += not interval.low <= 0.0 <= interval.high
    assert false / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_a_real_difference_is_found():
    random = np.random.RandomState(5)
    image = np.repeat(np.arange(100), 4)
    base = random.rand(400)
    own = base + 0.05 + 0.005 * random.randn(3, 1) + 0.1 * random.randn(3, 400)
    assert _one_stratum(own, base[None], image).low > 0.02


def test_scores_must_match():
    with pytest.raises(ValueError, match="3 and 2 scores"):
        _one_stratum(np.zeros((1, 3)), np.zeros((1, 2)), [0, 1, 2])


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="at least two images"):
        _one_stratum(np.zeros((1, 3)), np.zeros((1, 3)), [0, 0, 0])
