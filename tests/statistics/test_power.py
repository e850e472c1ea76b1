from __future__ import annotations

import pytest
from scipy import integrate, stats

from grip_core.seeds import numpy_random
from grip_core.statistics.power import detectable_difference, paired_power, seeds_needed


# Cohen's small, medium and large effects: the numbers of pairs that G*Power and textbooks give for 80 % at 5 %.
@pytest.mark.parametrize(("difference", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_are_the_textbook_s(difference, seeds):
    assert seeds_needed(difference, 1.0, 0.8, 0.05) == seeds


def test_few_seeds_suffice_for_a_difference_far_above_the_spread():
    assert seeds_needed(100.0, 1.0, 0.8, 0.05) == 2


def test_many_seeds_are_the_normal_distribution_s():
    golden = ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / 1e-3) ** 2
    assert seeds_needed(1e-3, 1.0, 0.8, 0.05) == pytest.approx(golden, rel=1e-4)


@pytest.mark.parametrize(("seeds", "difference"), [(2, 0.5), (3, 2.0), (5, 1.0)])
def test_power_is_the_integral_over_the_spread(seeds, difference):
    """Given the sample's variance s^2, the mean is normal and has to lie outside of t s / sqrt(n)."""
    df, shift = seeds - 1, difference * seeds**0.5

    def found_given(root: float) -> float:  # root^2 = df s^2 / sd^2, chi-squared
        limit = stats.t.ppf(0.975, df) * root / df**0.5
        return (stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift)) * stats.chi.pdf(root, df)

    golden, _ = integrate.quad(found_given, 0, 12)
    assert paired_power(difference, 1.0, seeds, 0.05) == pytest.approx(golden, abs=1e-6)


def test_power_is_how_often_the_t_test_finds_it():
    differences = 0.02 + 0.015 * numpy_random(0, "pairs").randn(4000, 5)
    found = (stats.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05).mean()
    assert paired_power(0.02, 0.015, 5, 0.05) == pytest.approx(found, abs=0.03)


def test_without_a_difference_power_is_alpha():
    assert paired_power(0.0, 1.0, 5, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_detectable_difference_is_detected(seeds, alpha):
    smallest = detectable_difference(0.03, seeds, 0.8, alpha)
    assert paired_power(smallest, 0.03, seeds, alpha) == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(1.0001 * smallest, 0.03, 0.8, alpha) == seeds
    if seeds > 2:
        assert seeds_needed(0.9999 * smallest, 0.03, 0.8, alpha) == seeds + 1


def test_the_detectable_difference_is_in_units_of_the_spread():
    assert detectable_difference(0.06, 5, 0.8, 0.05) == pytest.approx(2 * detectable_difference(0.03, 5, 0.8, 0.05))
    assert detectable_difference(0.0, 5, 0.8, 0.05) == 0.0


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        detectable_difference(0.03, 1, 0.8, 0.05)
    with pytest.raises(ValueError, match="alpha and 1"):
        detectable_difference(0.03, 5, 0.04, 0.05)
    with pytest.raises(ValueError, match="alpha and 1"):
        seeds_needed(0.03, 0.03, 1.0, 0.05)
    with pytest.raises(ValueError, match="positive"):
        seeds_needed(0.0, 0.03, 0.8, 0.05)
    with pytest.raises(ValueError, match="positive"):
        seeds_needed(0.03, float("inf"), 0.8, 0.05)
