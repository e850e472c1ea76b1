from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from grip_core.figures.difference import COLORS, difference


def test_intervals_in_points_with_the_color_of_their_verdict(differences):
    figure = difference(differences)
    figure.draw_without_rendering()
    axis = figure.axes[0]
    mean = differences[differences["benchmark"] == "mean"]
    segments = np.array(axis.collections[0].get_segments())
    assert segments[:, :, 0] == pytest.approx(100 * mean[["low", "high"]].to_numpy())
    assert [to_hex(color) for color in axis.collections[0].get_colors()] == [COLORS[said] for said in mean["verdict"]]
    assert set(mean["verdict"]) == {"better", "worse"}
    dots = axis.collections[1]
    assert np.asarray(dots.get_offsets())[:, 0] == pytest.approx(100 * mean["effect"].to_numpy())


def test_methods_are_read_from_the_top(differences):
    axis = difference(differences).axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["Warm-up only", "Token norm", "Random"]
    bottom, top = axis.get_ylim()
    assert bottom > top
    assert [panel.get_title(loc="left") for panel in axis.figure.axes] == ["Mean over benchmarks", "one", "two"]


def test_a_panel_says_on_how_many_images_it_rests(differences):
    labels = [panel.get_xlabel() for panel in difference(differences).axes]
    assert labels == [f"GRIP minus method, points\nn = {n} images" for n in (40, 20, 20)]
