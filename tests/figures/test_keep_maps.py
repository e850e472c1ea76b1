from __future__ import annotations

import numpy as np
import pytest

from grip_core.figures.keep_maps import RIGHT, WRONG, Answered, KeepMap, fade, keep_maps

GRID = (2, 3)


@pytest.fixture
def example() -> KeepMap:
    image = np.full((20, 30, 3), 200, np.uint8)
    answered = [Answered("all", None, "red", True), Answered("mine", [0, 5], "blue " * 20, False)]
    return KeepMap(image, "Colors", "what color ?", "red", answered)


def test_kept_patches_stay_and_others_darken(example):
    faded = fade(example.image, [0, 5], GRID)
    assert (faded[:10, :10] == 200).all()  # patch 0 is at the top left, 5 at the bottom right
    assert (faded[10:, 20:] == 200).all()
    assert (faded[:10, 10:] < 100).all()
    assert (faded[10:, :20] < 100).all()


def test_images_frames_and_answers(example):
    figure = keep_maps([example, example], GRID)
    assert len(figure.axes) == 4
    full, pruned = figure.axes[:2]
    assert (full.images[0].get_array() == example.image).all()
    assert (pruned.images[0].get_array() == fade(example.image, [0, 5], GRID)).all()
    corners = sorted(patch.get_xy() for patch in pruned.patches if patch.get_width() == 10)
    assert corners == [(-0.5, -0.5), (19.5, 9.5)]
    assert [text.get_text() for text in full.texts] == ["all", f"{RIGHT} red"]
    assert pruned.texts[1].get_text().startswith(f"{WRONG} blue blue")
    assert len(pruned.texts[1].get_text()) < 30
    title = full.get_title(loc="left")
    assert "Colors" in title
    assert "what color ?" in title
    assert title.strip().endswith("red")
