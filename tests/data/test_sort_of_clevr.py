"""Sort-of-CLEVR: answers recomputed from the pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest

from grip_core.data import sort_of_clevr
from grip_core.data.examples import IMAGE_SIZE, SPLITS

AREA = (2 * sort_of_clevr.HALF) ** 2
PALETTE = sort_of_clevr.COLORS


def _objects(image: np.ndarray) -> dict[str, tuple[str, float, float]]:
    """Shape and center (y, x) of every color, as the pixels show them: a rectangle fills its box, a circle does not."""
    objects = {}
    for color, value in PALETTE.items():
        rows, columns = np.nonzero((image == value).all(-1))
        assert np.ptp(rows) == np.ptp(columns) == 2 * sort_of_clevr.HALF - 1, "nothing hides it"
        shape = "rectangle" if len(rows) == AREA else "circle"
        objects[color] = (shape, (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2)
    return objects


def _answers(question: str, objects: dict[str, tuple[str, float, float]]) -> set[str]:
    """Every right answer: two objects may be equally far away."""
    color = next(word for word in re.findall(r"\w+", question) if word in PALETTE)
    shape, y, x = objects[color]
    if "how many" in question:
        return {str(sum(other == shape for other, _, _ in objects.values()))}
    if "on the left" in question:
        return {"yes" if x < IMAGE_SIZE / 2 else "no"}
    if "on the top" in question:
        return {"yes" if y < IMAGE_SIZE / 2 else "no"}
    if "closest" not in question and "furthest" not in question:
        return {shape}
    others = [(kind, (y - b) ** 2 + (x - a) ** 2) for name, (kind, b, a) in objects.items() if name != color]
    best = (min if "closest" in question else max)(distance for _, distance in others)
    return {kind for kind, distance in others if distance == best}


@pytest.mark.parametrize("split", SPLITS)
def test_answers(build, split):
    built = build(sort_of_clevr.NAME, split)
    for example in built.examples:
        assert example.answer in _answers(example.question, _objects(built.image(example.image_id))), example


def test_labels_and_relations_of_objects(build):
    built = build(sort_of_clevr.NAME, "test")
    for scene in built.scenes:
        objects = _objects(built.image(scene.image_id))
        assert [item.label for item in scene.objects] == [f"{color} {objects[color][0]}" for color in objects]
        for item in scene.objects:
            color = item.label.split()[0]
            for word, related in (("closest", item.nearest), ("furthest", item.furthest)):
                assert related.split()[1] in _answers(f"the object {word} to the {color} object ?", objects)


def test_both_kinds_are_asked_equally_often(build):
    kinds = [example.kind for example in build(sort_of_clevr.NAME, "train").examples]
    assert kinds.count("relational") == kinds.count("non-relational") == len(kinds) // 2
