"""Which examples share an image, and which images a stratum: what is drawn anew together.

Shape legend: E examples, C images, H strata (benchmarks). An image is named within its stratum only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clusters:
    """Indices of images and strata, counted from 0."""

    stratum_E: np.ndarray
    size_H: np.ndarray
    """Examples in each stratum."""
    cluster_E: np.ndarray
    stratum_C: np.ndarray
    images_H: np.ndarray

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.stratum_C)

    @property
    def df(self) -> int:
        """Degrees of freedom of a variance over images within strata."""
        return self.images - len(self.images_H)

    @property
    def weight_E(self) -> np.ndarray:
        """Weights that sum to 1 and let every stratum weigh the same: 1 / (strata x examples in the stratum)."""
        return 1.0 / (len(self.size_H) * self.size_H[self.stratum_E])


def find_clusters(image_E: np.ndarray, stratum_E: np.ndarray) -> Clusters:
    """Clusters of examples from the names of their images and strata. Raises ValueError if a stratum has fewer than two
    images, since one image tells nothing of the spread."""
    _, stratum_E, size_H = np.unique(stratum_E, return_inverse=True, return_counts=True)
    names, image_E = np.unique(image_E, return_inverse=True)
    cluster_C, cluster_E = np.unique(stratum_E * len(names) + image_E, return_inverse=True)
    stratum_C = cluster_C // len(names)
    images_H = np.bincount(stratum_C)
    if images_H.min() < 2:
        raise ValueError(f"every stratum needs at least two images, but got {images_H.min()}")
    return Clusters(stratum_E, size_H, cluster_E, stratum_C, images_H)
