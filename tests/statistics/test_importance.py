"""Shares of variance against closed forms, and what they are on average of draws."""

from __future__ import annotations

import numpy as np
import pytest

from grip_core.seeds import numpy_random
from grip_core.statistics.importance import INTERACTIONS, SEEDS, importances, shares

ROWS, COLUMNS = np.array([0.0, 3.0]), np.array([-1.0, 0.0, 1.0])


def test_without_noise_the_shares_are_those_of_the_sums():
    score = (ROWS[:, None] + COLUMNS)[..., None].repeat(2, -1)
    found = shares(score)
    np.testing.assert_allclose(found.factor_F, np.array([9 / 4, 2 / 3]) / (9 / 4 + 2 / 3))
    assert (found.interactions, found.seeds) == pytest.approx((0.0, 0.0))
    product = (np.array([-1.0, 1.0])[:, None] * COLUMNS)[..., None].repeat(2, -1)
    assert shares(product).interactions == pytest.approx(1.0)


def test_three_factors_that_only_matter_all_together():
    sign = np.array([-1.0, 1.0])
    found = shares(np.einsum("a,b,c->abc", sign, sign, sign)[..., None].repeat(3, -1))
    np.testing.assert_allclose(found.factor_F, 0.0, atol=1e-12)
    assert found.interactions == pytest.approx(1.0)


def test_what_seeds_do_is_not_a_factors():
    """Of a factor with variance 1 and seeds with variance 4 in each of two cells: 1 / 5 and 4 / 5."""
    generator = numpy_random(0, "shares")
    score = np.array([-1.0, 1.0])[:, None] + 2 * generator.normal(size=(2, 20000))
    found = shares(score)
    assert found.factor_F.item() == pytest.approx(0.2, abs=0.01)
    assert found.seeds == pytest.approx(0.8, abs=0.01)
    # Uncut, the corrected part is unbiased: with no factor at all it is as often above zero as below.
    parts = [generator.normal(size=(3, 3)) for _ in range(3000)]
    uncut = [part.mean(1).var() - part.var(axis=1, ddof=1).mean() * 2 / 9 for part in parts]
    assert abs(np.mean(uncut)) < 4 * np.std(uncut) / len(uncut) ** 0.5
    cut = [shares(part) for part in parts]
    assert np.mean([item.factor_F.item() == 0.0 for item in cut]) == pytest.approx(np.mean(np.array(uncut) <= 0.0))


def test_equal_scores_have_no_shares_and_one_run_no_seeds():
    assert np.isnan(shares(np.ones((2, 2, 3))).seeds)
    with pytest.raises(ValueError, match="at least two runs"):
        shares(np.ones((2, 1)))


def test_intervals_are_named_and_leave_a_seed_out():
    score = numpy_random(1, "shares").normal(size=(2, 3, 4)) + ROWS[:, None, None]
    found = importances(score, ["a", "b"], 0.95)
    assert list(found) == ["a", "b", INTERACTIONS, SEEDS]
    assert sum(item.effect for item in found.values()) == pytest.approx(1.0)
    assert all(0 <= item.low <= item.effect <= item.high <= 1 for item in found.values())
    pseudo = [4 * found["a"].effect - 3 * shares(np.delete(score, run, -1)).factor_F[0] for run in range(4)]
    half = 3.182446 * np.std(pseudo, ddof=1) / 2
    assert found["a"].low == pytest.approx(max(found["a"].effect - half, 0.0), abs=1e-6)
    assert list(importances(score[:, 0], ["a"], 0.95)) == ["a", SEEDS]
    assert np.isnan(importances(score[..., :2], ["a", "b"], 0.95)["a"].low)
