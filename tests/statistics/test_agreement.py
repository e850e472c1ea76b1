from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from grip_core.statistics.agreement import chance_level, jaccard


def _sets(*members: str) -> np.ndarray:
    return np.array([[token in kept for token in "abcd"] for kept in members])


def test_jaccard_by_hand():
    # Two of three shared; none; all; and nothing kept by both, which is agreement.
    found = jaccard(_sets("abc", "ab", "d", ""), _sets("ab", "cd", "d", ""))
    np.testing.assert_allclose(found, [2 / 3, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(("k", "n"), [(1, 5), (2, 5), (4, 6), (5, 5)])
def test_chance_level_is_the_enumeration_s_mean(k, n):
    subsets = [set(subset) for subset in combinations(range(n), k)]
    indices = [len(one & other) / len(one | other) for one in subsets for other in subsets]
    assert chance_level(k, n) == pytest.approx(np.mean(indices))


@pytest.mark.parametrize("k", [0, 6])
def test_chance_level_needs_a_set(k):
    with pytest.raises(ValueError, match="1 to n"):
        chance_level(k, 5)
