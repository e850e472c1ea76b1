from __future__ import annotations

import math
from dataclasses import replace

import pytest

from grip_core.claims.saving import Curve, Saving
from grip_core.statistics.intervals import Comparison, Part

FULL = Curve(16, (), (), {16: 20.0})


def curve(differences: list[float], seconds: tuple[float, ...] = (6.0, 8.0, 12.0, 20.0), sd: float = 0.02) -> Curve:
    """A method at 2, 4 and 8 of 16 tokens."""
    comparisons = tuple(Comparison(effect, (Part(sd**2, 50),), 30) for effect in differences)
    return Curve(16, (2, 4, 8), comparisons, dict(zip((2, 4, 8, 16), seconds, strict=True)))


def test_the_saving_is_that_of_the_smallest_budgets():
    """From -0.4 at 4 to 0 at 8, linear in log k: -0.1 is reached three quarters of the way."""
    own = curve([-0.5, -0.4, 0.0], sd=0.0)
    k = 4 * 2**0.75
    saved = Saving(own, FULL, 0.1, 30).interval(0.95)
    assert (saved.effect, saved.low, saved.high) == pytest.approx((1 - (4 + k) / 20,) * 3)
    halved = curve([-0.5, -0.4, 0.0], seconds=(3.0, 4.0, 6.0, 20.0), sd=0.0)
    assert Saving(halved, own, 0.1, 30).interval(0.95).effect == pytest.approx(0.5)


def test_more_tokens_are_never_taken_to_be_faster():
    assert curve([0.0] * 3, seconds=(6.0, 9.0, 8.0, 20.0)).cost(8) == 9.0


def test_a_peer_whose_choosing_costs_more_than_it_saves_would_not_prune():
    """It needs all tokens, which cost 20 unpruned, whatever it takes at 8 of them."""
    own, dear = curve([0.0] * 3, sd=0.0), curve([-0.5] * 3, seconds=(24.0, 26.0, 30.0, 20.0), sd=0.0)
    assert dear.cost(16) == 30.0
    assert Saving(own, dear, 0.1, 30).interval(0.95).effect == pytest.approx(1 - 6 / 20)


def test_the_p_value_is_where_the_interval_touches_the_null():
    saving = Saving(curve([-0.5, -0.2, -0.05]), curve([-0.5, -0.45, -0.3]), 0.1, 30)
    p = saving.p_value(0.1)
    assert 0 < p < 0.05
    assert saving.interval(1 - p * 1.001).low > 0.1 > saving.interval(1 - p * 0.999).low
    assert saving.p_value(saving.interval(0.5).effect) == 1.0


def test_ends_that_rest_on_the_smallest_measured_budget_are_open():
    enough, short = curve([0.0, 0.0, 0.0]), curve([-0.5, -0.4, 0.0])
    assert Saving(short, enough, 0.1, 30).interval(0.95).low == -math.inf
    assert Saving(enough, short, 0.1, 30).interval(0.95).high == 1.0
    assert Saving(short, FULL, 0.1, 30).interval(0.95).low > 0
    untimed = replace(short, seconds={16: 20.0})  # enough at 7 tokens or so, of which no time is known
    assert Saving(untimed, FULL, 0.1, 30).interval(0.95).high == 1.0
