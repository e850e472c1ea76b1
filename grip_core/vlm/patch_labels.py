"""Auxiliary targets for the training of the embedded VLM: what each patch of the image shows.

Without them its training stays on a plateau for a long time: nothing tells the vision tower what to look for until the
language model can already use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grip_core.data.examples import Scene

IGNORED = -100
BACKGROUND = 0


@dataclass(frozen=True)
class PatchLabels:
    """Targets per patch, each int64 (B, N); IGNORED where the patch shows no object or the scene states no relation."""

    object_BN: np.ndarray
    row_BN: np.ndarray
    column_BN: np.ndarray
    nearest_BN: np.ndarray
    furthest_BN: np.ndarray
    present_BC: np.ndarray
    """Multi-hot (B, C), float32: the classes present in the image."""


class PatchLabeller:
    """Turns scenes into targets for a `grid` x `grid` patching with patches of `patch` pixels."""

    def __init__(self, scenes: Sequence[Scene], grid: int, patch: int) -> None:
        names = sorted({item.label for scene in scenes for item in scene.objects})
        self.classes = {name: i + 1 for i, name in enumerate(names)}  # 0 is BACKGROUND
        self.grid, self.patch = grid, patch

    def __call__(self, scenes: Sequence[Scene]) -> PatchLabels:
        n = self.grid * self.grid
        fields = np.full((5, len(scenes), n), IGNORED, np.int64)
        fields[0] = BACKGROUND
        present = np.zeros((len(scenes), len(self.classes) + 1), np.float32)
        for b, scene in enumerate(scenes):
            overlap = np.stack([self._overlap(item.box) for item in scene.objects])
            owner = overlap.argmax(0)
            shown = overlap.max(0) > 0
            targets = np.array([self._targets(item) for item in scene.objects])
            fields[:, b, shown] = targets[owner[shown]].T
            present[b, targets[:, 0]] = 1.0
        object_BN, row_BN, column_BN, nearest_BN, furthest_BN = fields
        return PatchLabels(object_BN, row_BN, column_BN, nearest_BN, furthest_BN, present)

    def _targets(self, item) -> tuple[int, int, int, int, int]:
        top, left, bottom, right = item.box
        return (
            self.classes[item.label],
            min((top + bottom) // 2 // self.patch, self.grid - 1),
            min((left + right) // 2 // self.patch, self.grid - 1),
            self.classes.get(item.nearest, IGNORED),
            self.classes.get(item.furthest, IGNORED),
        )

    def _overlap(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """Shared area in pixels of `box` with every patch, (N,)."""
        edges = np.arange(self.grid) * self.patch
        rows = np.clip(np.minimum(edges + self.patch, box[2]) - np.maximum(edges, box[0]), 0, None)
        columns = np.clip(np.minimum(edges + self.patch, box[3]) - np.maximum(edges, box[1]), 0, None)
        return (rows[:, None] * columns[None]).reshape(-1)
