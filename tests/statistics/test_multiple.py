from __future__ import annotations

import numpy as np
import pytest

from grip_core.seeds import numpy_random
from grip_core.statistics.intervals import compare
from grip_core.statistics.multiple import holm, holm_levels


def test_holm_by_hand():
    # In order .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04, which is raised to the .06 before it.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_is_cut_at_one_and_leaves_a_single_value_alone():
    np.testing.assert_allclose(holm(np.array([0.6, 0.02, 0.7])), [1.0, 0.06, 1.0])
    assert holm(np.array([0.03])).tolist() == [0.03]


def test_equal_values_are_adjusted_alike():
    np.testing.assert_allclose(holm(np.array([0.02, 0.02, 0.02])), [0.06] * 3)


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1])
def test_holm_takes_probabilities_only(wrong):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(np.array([0.5, wrong]))


# Seeds of the method and of each of its four comparators; a comparator with one seed is deterministic.
@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (3, 3), (5, 5)])
def test_a_family_of_true_nulls_seldom_gives_a_false_claim(seeds, others):
    """One method against four equals, which is where the best, or worst, of several looks different by chance: the
    comparisons share the method's noise, the images and the questions of an image."""
    random, trials = numpy_random(0, f"{seeds}/{others}"), 400
    image, stratum = np.repeat(np.arange(30), 3), np.repeat([0, 1], [30, 60])
    plain = stepped = 0

    def scores(count: int) -> np.ndarray:
        liking = 0.1 * random.randn(30)[image]
        return liking + 0.02 * (count > 1) * random.randn(count, 1) + 0.1 * random.randn(count, 90)

    for _ in range(trials):
        own = scores(seeds)
        family = [compare(own, scores(others), image, stratum) for _ in range(4)]
        p = np.array([item.p_value() for item in family])
        plain += bool(p.min() <= 0.05)
        stepped += bool(holm(p).min() <= 0.05)
    allowed = 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5
    assert stepped / trials <= allowed
    if seeds == 1:  # many degrees of freedom, so nearly exact: without a correction the family errs far too often
        assert plain / trials > allowed


def test_intervals_at_holms_levels_exclude_the_null_exactly_where_holm_claims():
    p = np.array([0.04, 0.001, 0.02, 0.6])
    np.testing.assert_allclose(holm_levels(p, 0.05), np.array([1 / 3, 1 / 4, 1 / 3, 1 / 3]) * 0.05)
    generator = numpy_random(0, "levels")
    for _ in range(200):
        p = generator.uniform(size=5) ** 4
        np.testing.assert_array_equal(p <= holm_levels(p, 0.05), holm(p) <= 0.05)
