from __future__ import annotations

import numpy as np
import pytest

from grip_core.figures.groups import best_of_groups, grouped
from grip_core.figures.palette import STYLES
from grip_core.figures.pareto import pareto


def _line(axis, name):
    return next(line for line in axis.lines if line.get_label() == name)


def test_a_panel_a_benchmark_on_a_logarithmic_axis(table):
    figure = pareto(table)
    figure.draw_without_rendering()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Mean over benchmarks", "one", "two"]
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["2\n12%", "4\n25%", "8\n50%"]
    assert "kept visual tokens (share of 16)" in axis.get_xlabel()
    assert axis.get_ylabel() == "accuracy (share of questions)"


def test_lines_and_bands_are_the_table(table):
    axis = pareto(table).axes[1]
    grip = table[(table["benchmark"] == "one") & (table["method"] == "grip")].sort_values("k")
    np.testing.assert_allclose(_line(axis, "grip").get_ydata(), grip["accuracy"])
    np.testing.assert_allclose(_line(axis, "random").get_ydata(), [0.3] * 3)
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
    groups = {
        "Ours": ["GRIP", "Warm-up only"],
        "Before the LLM": ["Random", "Token norm"],
        "References": ["All tokens", "No image"],
    }
    expected = [words for title, members in groups.items() for words in (title, *members)]
    assert [name for name in names if name] == expected
    bold = {text.get_text() for text in legend.get_texts() if text.get_weight() == "bold"}
    assert bold == {*groups, "GRIP", "Warm-up only", "Token norm"}
    assert legend.get_window_extent().y1 <= min(axis.get_tightbbox().y0 for axis in figure.axes)


def test_ours_and_the_best_of_each_group_stand_out(table):
    assert best_of_groups(table) == ["grip", "warmup", "norm"]
    axis = pareto(table).axes[0]
    widths = {name: _line(axis, name).get_linewidth() for name in ("grip", "warmup", "norm", "random")}
    assert sorted(widths, key=widths.__getitem__) == ["random", "norm", "warmup", "grip"]
    assert _line(axis, "norm").get_color() == STYLES["norm"].color
    assert _line(axis, "random").get_color() != STYLES["random"].color


def test_the_best_is_sought_where_all_methods_were_run(table):
    easy = table[(table["method"] != "random") | (table["k"] == 8)].copy()
    easy.loc[(easy["method"] == "norm") & (easy["k"] == 8), "accuracy"] = 0.2  # random has 0.3 there
    assert best_of_groups(easy)[-1] == "random"


def test_every_method_has_one_group_and_others_come_before_the_references():
    groups = grouped(["no_image", "mine", "dart", *STYLES])
    names = [name for members in groups.values() for name in members]
    assert sorted(names) == sorted({"mine", *STYLES})
    assert groups["Others"] == ["mine"]
    assert list(groups)[-2:] == ["Others", "References"]


@pytest.mark.parametrize(
    ("trained", "shaded"), [((2, 8), []), ((2, 5), [8]), ((3, 4), [2, 8]), ((1, 100), [])], ids=str
)
def test_untrained_budgets_are_shaded_and_no_trained_one(table, trained, shaded):
    axis = pareto(table, trained=trained).axes[0]
    spans = [patch.get_x() + np.array([0, patch.get_width()]) for patch in axis.patches]
    assert [k for k in (2, 4, 8) if any(left <= k <= right for left, right in spans)] == shaded
    assert len(spans) == len(shaded)


def test_the_note_says_how_much_data_there_are(table):
    note = pareto(table, questions=80, trained=(1, 4)).legends[0].get_title().get_text()
    assert "n = 80 questions on 40 images" in note
    assert "up to 3 seeds of what is drawn or trained, 1 of the rest" in note
    assert "1 to 4 tokens" in note
    assert "questions on" not in pareto(table).legends[0].get_title().get_text()
