from __future__ import annotations

import numpy as np
import pytest

from grip_core.statistics.clusters import find_clusters


def test_images_are_named_within_their_stratum():
    clusters = find_clusters(np.array([7, 7, 3, 7, 5, 3]), np.array(["b", "b", "b", "a", "a", "a"]))
    assert clusters.images == 5
    assert clusters.df == 3
    assert clusters.images_H.tolist() == [3, 2]  # a, b
    assert clusters.size_H.tolist() == [3, 3]
    assert clusters.cluster_E.tolist() == [4, 4, 3, 2, 1, 0]
    assert clusters.stratum_C.tolist() == [0, 0, 0, 1, 1]


def test_every_stratum_weighs_the_same():
    clusters = find_clusters(np.arange(8), np.array([0, 0, 1, 1, 1, 1, 1, 1]))
    np.testing.assert_allclose(clusters.weight_E, [1 / 4] * 2 + [1 / 12] * 6)


def test_one_image_tells_nothing():
    with pytest.raises(ValueError, match="at least two images, but got 1"):
        find_clusters(np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]))
