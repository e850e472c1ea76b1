"""Digit grids: answers recomputed from scikit-learn's own labels and the pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

from grip_core.data import digit_grids
from grip_core.data.examples import SPLITS, Scene, Split

LABELS = {
    (image.astype(int) * 255 // 16).astype(np.uint8).tobytes(): int(label)
    for image, label in zip(load_digits().images, load_digits().target, strict=True)
}


def _grid(split: Split, scene: Scene) -> np.ndarray:
    """The labels of the digits that the pixels show, (4, 4)."""
    image, grid = split.image(scene.image_id)[:, :, 0], np.full((4, 4), -1)
    for _, top, left in scene.layout:
        grid[top // 36, left // 36] = LABELS[image[top : top + 32 : 4, left : left + 32 : 4].tobytes()]
    return grid


def _answer(question: str, grid: np.ndarray) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if question.startswith("which digit is at"):
        return str(grid[numbers[0] - 1, numbers[1] - 1])
    if question.startswith("how many"):
        return str(np.count_nonzero(grid == numbers[0]))
    if question.startswith("is there a"):
        return "yes" if numbers[0] in grid[numbers[1] - 1] else "no"
    assert question.startswith("which is larger")
    return str(max(grid[numbers[0] - 1, numbers[1] - 1], grid[numbers[2] - 1, numbers[3] - 1]))


@pytest.mark.parametrize("split", SPLITS)
def test_answers(build, split):
    built = build(digit_grids.NAME, split)
    for example in built.examples:
        assert _answer(example.question, _grid(built, built.scenes[example.image_id])) == example.answer, example


def test_labels_of_objects(build):
    built = build(digit_grids.NAME, "test")
    for scene in built.scenes:
        assert [int(item.label) for item in scene.objects] == _grid(built, scene).ravel().tolist()


def test_every_kind_is_asked_equally_often(build):
    kinds = [example.kind for example in build(digit_grids.NAME, "train").examples]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict.fromkeys(("read", "count", "in row", "larger"), 80)
