from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.evaluation.coverage import coverage_table, keep_share_table, nearest_kept, patch_distances

GRID = (2, 3)
"""Patches 0 1 2 above 3 4 5."""


@pytest.fixture
def rows() -> pd.DataFrame:
    records = [
        ("one", "mine", 2, [0, 2]),
        ("one", "mine", 2, [0, 5]),
        ("one", "mine", 1, [1]),
        ("two", "mine", 2, [3, 5]),
        ("one", "grid", 2, [1, 4]),
        ("one", "no_image", 0, []),
    ]
    return pd.DataFrame(records, columns=["benchmark", "method", "k", "kept"])


def test_distances_are_euclidean_in_patches():
    distance_NN = patch_distances(GRID)
    assert distance_NN[0] == pytest.approx([0, 1, 2, 1, 2**0.5, 5**0.5])
    np.testing.assert_array_equal(distance_NN, distance_NN.T)


@pytest.mark.parametrize(
    ("kept", "total"),
    [
        ([0], 4 + 2**0.5 + 5**0.5),
        ([1], 3 + 2 * 2**0.5),
        ([0, 2], 3 + 2**0.5),  # 1, 3 and 5 are one away, 4 is diagonal to both
        ([1, 4], 4),
        ([0, 1, 2, 3, 4, 5], 0),
    ],
)
def test_mean_distance_to_the_nearest_kept_patch(kept, total):
    assert nearest_kept(patch_distances(GRID), kept) == pytest.approx(total / 6)


def test_no_kept_patch_has_no_distance():
    with pytest.raises(ValueError, match="at least one"):
        nearest_kept(patch_distances(GRID), [])


def test_distances_are_averaged_over_answers(rows):
    table = coverage_table(rows, GRID).set_index(["benchmark", "method", "k"])
    assert list(table.index) == [("one", "grid", 2), ("one", "mine", 1), ("one", "mine", 2), ("two", "mine", 2)]
    pair = ((3 + 2**0.5) / 6, 4 / 6)  # of [0, 5] all four others are one away
    assert table.loc[("one", "mine", 2), "distance"] == pytest.approx(np.mean(pair))
    assert table["n"].tolist() == [1, 1, 2, 1]


def test_shares_of_answers_that_keep_each_patch(rows):
    table = keep_share_table(rows, 2, GRID)
    mine = table[table["method"] == "mine"]
    assert mine["share"].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 1 / 3, 0, 2 / 3])
    assert mine[["row", "column"]].to_numpy().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert set(mine["n"]) == {3}
    assert table.groupby("method")["share"].sum().tolist() == pytest.approx([2, 2])  # k
