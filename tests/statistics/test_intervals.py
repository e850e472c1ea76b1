from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grip_core.seeds import numpy_random
from grip_core.statistics.intervals import (
    Comparison,
    Part,
    compare,
    mean_interval,
    paired_difference,
    score_interval,
)


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
@pytest.mark.parametrize(("seeds", "others"), [(2, 1), (3, 3), (3, 5), (5, 1), (5, 5)])
def test_false_verdicts_stay_below_their_level(seed_spread, seeds, others):
    """No method is better; one seed-less comparator or several seeds; images shared by the questions."""
    random, trials, false = numpy_random(4, f"{seeds}/{others}/{seed_spread}"), 400, 0
    image = np.repeat(np.arange(40), 3)
    for _ in range(trials):
        liking = 0.1 * random.randn(2, 40)[:, image]  # what each method makes of an image, whatever its seed
        own = liking[0] + seed_spread * random.randn(seeds, 1) + 0.1 * random.randn(seeds, 120)
        spread = seed_spread if others > 1 else 0.0
        theirs = liking[1] + spread * random.randn(others, 1) + 0.1 * random.randn(others, 120)
        interval = _one_stratum(own, theirs, image)
        false += not interval.low <= 0.0 <= interval.high
    assert false / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_the_same_seeds_are_the_paired_t_test():
    random = numpy_random(8, "scores")
    own, theirs = np.repeat(random.rand(5, 1), 10, axis=1), np.repeat(random.rand(5, 1), 10, axis=1)
    found = compare(own, theirs, np.arange(10), np.zeros(10), same_seeds=True)
    golden = stats.ttest_rel(own[:, 0], theirs[:, 0])
    assert found.p_value() == pytest.approx(golden.pvalue)
    interval, bounds = found.interval(0.9), golden.confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((bounds.low, bounds.high))
    with pytest.raises(ValueError, match="seeds of both must be the same, but they are 5 and 4"):
        compare(own, theirs[1:], np.arange(10), np.zeros(10), same_seeds=True)


@pytest.mark.parametrize("shared", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("seeds", [3, 5])
def test_false_verdicts_stay_below_their_level_with_the_same_seeds(shared, seeds):
    """Of the seeds' spread, the share `shared` is what a seed makes of both methods alike."""
    random, trials, false, width = numpy_random(9, f"{seeds}/{shared}"), 400, 0, 0.0
    image = np.repeat(np.arange(40), 3)
    for _ in range(trials):
        liking = 0.1 * random.randn(2, 40)[:, image]
        alike, apart = shared**0.5 * random.randn(seeds, 1), (1 - shared) ** 0.5 * random.randn(2, seeds, 1)
        own, theirs = (liking[i] + 0.1 * (alike + apart[i]) + 0.1 * random.randn(seeds, 120) for i in range(2))
        found = compare(own, theirs, image, np.zeros(120), same_seeds=True).interval(0.95)
        false += not found.low <= 0.0 <= found.high
        width += (found.high - found.low) / trials
    assert false / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5
    assert shared < 1 or width < 0.25, "what seeds share is not in it"


def test_the_parts_are_kept_as_they_add_up():
    random = numpy_random(6, "scores")
    a, b, image, stratum = random.rand(3, 24), random.rand(5, 24), np.arange(24) // 2, np.arange(24) // 8
    found = compare(a, b, image, stratum)
    images, own, theirs = found.parts
    assert own == pytest.approx((np.var(a.mean(1), ddof=1) / 3, 2))  # strata of one size: the plain mean
    assert theirs == pytest.approx((np.var(b.mean(1), ddof=1) / 5, 4))
    # The mean over 12 images' means, each stratum's 4 around their own: sum over h of var_h / 4, over 3^2.
    d_HC = (a.mean(0) - b.mean(0)).reshape(3, 4, 2).mean(-1)
    assert images == pytest.approx((np.var(d_HC, axis=1, ddof=1).sum() / 4 / 9, 9))
    assert found.interval(0.9) == paired_difference(a, b, image, stratum, 0.9)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3, 30.0])
def test_the_p_value_of_deterministic_methods_is_the_paired_t_test_s(shift):
    random = numpy_random(7, "scores")
    a, b = random.rand(40) + shift, random.rand(40)
    found = compare(a[None], b[None], np.arange(40), np.zeros(40))
    assert found.p_value() == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found.p_value(null=0.1) == pytest.approx(stats.ttest_rel(a - 0.1, b).pvalue, rel=1e-9)


def test_the_p_value_of_two_parts_by_hand():
    # Two parts of 2 degrees add like one: with t(2), P(|T| > t) = 1 - t / sqrt(2 + t^2), and t = 1 / 0.5 = 2.
    assert Comparison(1.0, (Part(0.09, 2), Part(0.16, 2)), 9).p_value() == pytest.approx(1 - 2 / 6**0.5, rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(1e-8, 1.0), st.integers(1, 5000)), min_size=1, max_size=3),
    st.floats(0.001, 0.999),
)
@settings(max_examples=100, deadline=None)
def test_the_p_value_is_the_level_whose_interval_touches_the_null(parts, confidence):
    found = Comparison(0.5, tuple(Part(*part) for part in parts), 10)
    interval = found.interval(confidence)
    for end in (interval.low, interval.high):
        if abs(end - 0.5) > 1e-6:  # else rounding of the end shows
            assert found.p_value(end) == pytest.approx(1 - confidence, rel=1e-6)


def test_p_values_where_nothing_varies_or_next_to_nothing():
    still = Comparison(0.2, (Part(0.0, 5), Part(0.0, 2)), 6)
    assert (still.p_value(), still.p_value(0.2), still.p_value(0.2 + 1e-12)) == (0.0, 1.0, 1.0)
    assert Comparison(0.2, (Part(1e-6, 10_000), Part(0.0, 2)), 6).p_value() == 0.0  # 200 standard errors
    assert 0.0 < Comparison(0.2, (Part(1e-6, 10_000), Part(1e-9, 2)), 6).p_value() < 1e-3


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
