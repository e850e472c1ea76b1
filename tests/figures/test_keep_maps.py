from __future__ import annotations

import numpy as np
import pytest

from grip_core.figures.keep_maps import (
    RIGHT,
    WRONG,
    Answered,
    KeepMap,
    fade,
    keep_maps,
    methods_by_budgets,
    shrinking,
)

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


def budgets_of(method: str, *kept: list[int]) -> KeepMap:
    """Answers of one method with all tokens and with what is kept, wrong with the last."""
    image = np.full((20, 30, 3), 200, np.uint8)
    answered = [Answered("All tokens", None, "red", True)]
    answered += [Answered(method, part, "blue", part != kept[-1]) for part in kept]
    return KeepMap(image, "Colors", "what color ?", "red", answered)


def test_budgets_shrink_from_left_to_right():
    figure = shrinking([budgets_of("GRIP", [0, 1, 5], [4]), budgets_of("Grid", [0, 2, 4], [1])], GRID)
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert [heading for heading, _ in texts[:3]] == ["all 6 tokens", "3 tokens (50%)", "1 token (17%)"]
    assert [answer for _, answer in texts[:3]] == [f"{RIGHT} red", f"{RIGHT} blue", f"{WRONG} blue"]
    for axis, kept in zip(figure.axes[4:], [[0, 2, 4], [1]]):
        assert (axis.images[0].get_array() == fade(budgets_of("", []).image, kept, GRID)).all()
    titles = [figure.axes[i].get_title(loc="left").strip() for i in (0, 3)]
    assert titles == [f"Colors: what color ? \N{RIGHTWARDS ARROW} red ({name})" for name in ("GRIP", "Grid")]


def test_methods_are_rows_below_their_one_question():
    figure = methods_by_budgets([budgets_of("GRIP", [0, 1], [4]), budgets_of("Grid", [0, 2], [1])], GRID)
    assert figure.get_suptitle() == "Colors: what color ? \N{RIGHTWARDS ARROW} red"
    assert [figure.axes[i].get_title(loc="left").strip() for i in (0, 3)] == ["GRIP", "Grid"]
    assert (figure.axes[5].images[0].get_array() == fade(budgets_of("", []).image, [1], GRID)).all()


def test_rows_of_different_budgets_are_refused():
    with pytest.raises(ValueError, match="different budgets"):
        shrinking([budgets_of("GRIP", [0, 1], [4]), budgets_of("GRIP", [0, 1], [4, 5])], GRID)


def test_long_questions_and_answers_are_cut(example):
    long = KeepMap(example.image, "Colors", "what " * 100, "red", budgets_of("GRIP", [0]).answered)
    title = shrinking([long], GRID).axes[0].get_title(loc="left")
    assert 10 < len(title) < 40
