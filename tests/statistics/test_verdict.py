from __future__ import annotations

import pytest

from grip_core.statistics.verdict import verdict


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
