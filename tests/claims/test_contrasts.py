from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from grip_core.claims.contrasts import Contrast, compare_all, hardest
from grip_core.claims.evidence import all_above
from grip_core.seeds import numpy_random
from grip_core.statistics.intervals import Interval, compare


@dataclass(frozen=True)
class Fixed:
    """An estimate that is what it is told to be."""

    effect: float
    half: float
    p: float

    def interval(self, confidence: float) -> Interval:
        return Interval(self.effect, self.effect - self.half, self.effect + self.half, 7)

    def p_value(self, null: float) -> float:
        return self.p


def contrast(other: str, effect: float, half: float = 0.1, p: float = 0.01) -> Contrast:
    return Contrast("grip", other, "2", Fixed(effect, half, p))


def test_better_needs_no_correction_and_worse_is_holms():
    made = [contrast("a", 0.2, p=0.04), contrast("b", -0.2, p=0.02), contrast("c", -0.3, p=0.001)]
    verdicts = {item.other: (item.verdict, item.p_holm) for item in compare_all(made, 0.0, 0.95)}
    assert verdicts == {
        "a": ("supported", pytest.approx(0.04)),
        "b": ("contradicted", pytest.approx(0.04)),
        "c": ("contradicted", pytest.approx(0.003)),
    }
    more = compare_all([*made, *(contrast(str(i), 0.0, p=1.0) for i in range(3))], 0.0, 0.95)
    assert [item.verdict for item in more[:3]] == ["supported", "undecided", "contradicted"]


def test_the_hardest_decides():
    made = compare_all([contrast("a", 0.2), contrast("b", 0.15), contrast("c", 0.05, p=0.5)], 0.0, 0.95)
    assert hardest(made).other == "c"
    assert hardest(made[:2]).other == "b"
    lost = compare_all([contrast("d", -0.3, half=0.4, p=0.5), contrast("e", -0.2)], 0.0, 0.95)
    assert hardest(lost).other == "e"  # the larger loss is not known to be one


def test_a_supported_claim_has_the_largest_p_and_a_contradicted_one_holms():
    supported = all_above([contrast("a", 0.2, p=0.001), contrast("b", 0.3, p=0.03)], [], 0.0, 0.95)
    assert (supported.verdict, supported.other, supported.p_value) == ("supported", "a", 0.03)
    lost = all_above([contrast("a", 0.2, p=0.001), contrast("b", -0.3, p=0.01)], [], 0.0, 0.95)
    assert (lost.verdict, lost.other, lost.p_value) == ("contradicted", "b", pytest.approx(0.01))


@pytest.mark.parametrize("peers", [1, 6])
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_equal_peers_give_a_wrong_verdict_at_most_as_often_as_stated(peers, gap):
    """The method equals its best peer, so it neither beats all nor loses to one; `gap` is to the other peers."""
    generator = numpy_random(peers, "null")
    image_E, stratum_E = np.repeat(np.arange(30), 2), np.repeat([0, 1], 30)
    runs, wrong = 400, 0
    for _ in range(runs):
        hardness_E = generator.uniform(-0.2, 0.2, 30)[image_E]
        own_SE = generator.uniform(size=(3, 60)) < 0.6 + hardness_E
        made = []
        for i in range(peers):
            other_RE = generator.uniform(size=(1 + 2 * (i % 2), 60)) < 0.6 + hardness_E - (gap if i else 0.0)
            made.append(Contrast("grip", str(i), "2", compare(own_SE * 1.0, other_RE * 1.0, image_E, stratum_E)))
        wrong += all_above(made, [], 0.0, 0.95).verdict != "undecided"
    assert wrong / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
