from __future__ import annotations

import pytest

from grip_core.statistics.verdict import superiority, verdict


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (1e-17, 5e-17, "undecided"),  # what rounding leaves of nothing
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_verdict(low, high, said):
    assert verdict(low, high) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.06, 0.2, "supported"),
        (0.01, 0.04, "contradicted"),
        (0.01, 0.2, "undecided"),
        (0.05, 0.2, "undecided"),
        (0.05, 0.05, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_superiority_over_a_threshold(low, high, said):
    assert superiority(low, high, 0.05) == said
