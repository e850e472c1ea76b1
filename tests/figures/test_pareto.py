from __future__ import annotations

import numpy as np
import pytest

from grip_core.figures.palette import STYLES
from grip_core.figures.pareto import pareto


def _line(axis, color):
    return next(line for line in axis.lines if line.get_color() == color and len(line.get_xdata()) == 3)


def test_a_panel_a_benchmark_on_a_logarithmic_axis(table):
    figure = pareto(table)
    figure.draw_without_rendering()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Mean over benchmarks", "one", "two"]
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["2\n12%", "4\n25%", "8\n50%"]
    assert "kept visual tokens" in axis.get_xlabel()
    assert axis.get_ylabel() == "accuracy"


def test_lines_and_bands_are_the_table(table):
    axis = pareto(table).axes[1]
    grip = table[(table["benchmark"] == "one") & (table["method"] == "grip")].sort_values("k")
    np.testing.assert_allclose(_line(axis, STYLES["grip"].color).get_ydata(), grip["accuracy"])
    np.testing.assert_allclose(_line(axis, STYLES["random"].color).get_ydata(), [0.3] * 3)
    heights = [band.get_paths()[0].vertices[:, 1] for band in axis.collections if len(band.get_paths())]
    assert len(heights) == 1  # only GRIP has several seeds
    assert (heights[0].min(), heights[0].max()) == pytest.approx((grip["seed_low"].min(), grip["seed_high"].max()))


def test_references_are_horizontal_lines(table):
    levels = [line.get_ydata() for line in pareto(table).axes[1].lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(levels, [[1.0, 1.0], [0.25, 0.25]])


def test_legend_names_every_method_once_below_the_panels(table):
    figure = pareto(table)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["GRIP", "Warm-up only", "Token norm", "Random", "All tokens", "No image"]
    assert legend.get_window_extent().y1 <= min(axis.get_tightbbox().y0 for axis in figure.axes)
