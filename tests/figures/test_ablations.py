"""What is drawn is what the tables say, and can be read at the width of a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from grip_core.figures.arm_curves import arm_curves
from grip_core.figures.arm_profiles import arm_profiles
from grip_core.figures.arms import BASELINE, arm_label, arm_styles, ordered
from grip_core.figures.cells import LIGHTNESS
from grip_core.figures.column_width import COLUMN, PAGE, STALE, column_theme
from grip_core.figures.effects_heat_map import effects_heat_map
from grip_core.figures.entropy import entropy
from grip_core.figures.forest import LOOKS, forest
from grip_core.figures.importances import importances
from grip_core.figures.kl_reward import kl_reward_frontier
from grip_core.figures.own_gains import own_gains
from grip_core.figures.palette import use_theme
from grip_core.figures.schedule_matrix import schedule_matrix
from grip_core.figures.sensitivity import sensitivity
from grip_core.figures.survival import survival

SIZES = {"group_size=128": "128", "baseline": "32", "group_size=4": "4", "group_size=8": "8"}
LOOK = arm_styles({arm: {"group_size": size} for arm, size in SIZES.items()}, "baseline")
ARMS = ["baseline", "group_size=4", "group_size=8", "group_size=128"]
NAMES = ["baseline", "group size=4", "group size=8", "group size=128"]
STEPS = [0, 20, 40, 60]
NOTE = "n = 240 questions, 3 seeds an arm; 95 % bootstrap intervals over seeds, simultaneous by max-T; paired test."


def table(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


SEEDS = table(
    "arm seed step value",
    *(
        (arm, seed, step, 0.1 * i + 0.01 * seed + step / 200)
        for i, arm in enumerate(ARMS)
        for seed in (0, 1, 2)
        for step in STEPS
    ),
)
MEANS = table(
    "arm step iqm low high",
    *(
        (arm, step, 0.1 * i + step / 200, 0.1 * i + step / 200 - 0.02, 0.1 * i + step / 200 + 0.03)
        for i, arm in enumerate(ARMS)
        for step in STEPS
    ),
)
SURVIVING = MEANS.assign(surviving=1 - MEANS["iqm"], low=0.9 - MEANS["iqm"], high=1.0)
PROFILES = SURVIVING.rename(columns={"step": "threshold", "surviving": "share"})
TWO = pd.concat([MEANS.assign(metric="entropy"), MEANS.assign(metric="dead_share", iqm=0.5, low=0.25)])
FACTORS = table(
    "row_level column_level mean spread seeds",
    *(("16", "0.5", 0.7, 0.02, 5), ("16", "0", 0.6, 0.01, 5), ("4", "0", 0.4, 0.04, 3), ("4", "none", 0.5, 0.03, 5)),
)
MATRIX = table(
    "arm k accuracy difference unseen",
    *(("group_size=4", 16, 0.625, 0.025, True), ("group_size=4", 2, 0.4, -0.1, False)),
    *(("baseline", 2, 0.5, 0.0, False), ("baseline", 16, 0.6, 0.0, False), ("group_size=8", 2, 0.51, 0.01, True)),
)
PATHS = SEEDS.assign(kl=SEEDS["step"] / 100 + SEEDS["seed"] / 50, log_prob=SEEDS["value"] - 2)
PHASES = table(
    "phase parameter importance low high",
    *(("early", "learning_rate", 0.5, 0.4, 0.6), ("early", "clip_range", 0.2, 0.1, 0.3)),
    *(("late", "clip_range", 0.7, 0.6, 0.8), ("late", "learning_rate", 0.1, 0.0, 0.2)),
)
EFFECTS = table(
    "ablation arm effect low high seeds verdict",
    ("group_size", "group_size=4", 0.03, 0.01, 0.05, 5, "better"),
    ("group_size", "distilled_from_both_of_the_two_teachers_and_for_longer", -0.01, -0.03, 0.01, 3, "undecided"),
    ("kl_weight", "beta=0", -0.04, -np.inf, -0.02, 10, "worse"),
)
POINTS = table("setting performance sensitivity", *((arm, 0.5 + i / 50, 0.1 - i / 50) for i, arm in enumerate(ARMS)))
GAINS = table("k gain", *((k, 0.01 * seed - 0.02 * k) for k in (1, 4, 36) for seed in range(5)))
RISES = table("k effect low high", (1, 0.0, -0.03, 0.03), (4, -0.06, -0.1, -0.02), (36, -0.7, -0.8, -0.6))
FIGURES: dict[str, Callable[..., Figure]] = {
    "heat map": lambda **how: effects_heat_map(FACTORS, ("group size", "KL"), ("mean", "std over seeds"), NOTE, **how),
    "curves": lambda **how: arm_curves(SEEDS, MEANS, LOOK, "accuracy", NOTE, **how),
    "profiles": lambda **how: arm_profiles(PROFILES, LOOK, NOTE, **how),
    "schedules": lambda **how: schedule_matrix(MATRIX, LOOK, NOTE, **how),
    "survival": lambda **how: survival(SURVIVING, LOOK, NOTE, **how),
    "frontier": lambda **how: kl_reward_frontier(PATHS, LOOK, NOTE, **how),
    "entropy": lambda **how: entropy(TWO.rename(columns={"iqm": "mean"}), LOOK, NOTE, **how),
    "importances": lambda **how: importances(PHASES, NOTE, **how),
    "forest": lambda **how: forest(EFFECTS, NOTE, **how),
    "gains": lambda **how: own_gains(GAINS, RISES, NOTE, **how),
    "sensitivity": lambda **how: sensitivity(POINTS, LOOK, NOTE, **how),
}


def named(axis, name: str) -> list:
    return [line for line in axis.lines if line.get_label() == name]


def band(axis, name: str) -> np.ndarray:
    (found,) = [item for item in axis.collections if item.get_label() == name]
    return found.get_paths()[0].vertices


def words(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def legend_words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def seen(figure: Figure) -> Iterator[Text]:
    """Every piece of text but ticks' outside of the frame, and the mark."""
    figure.draw_without_rendering()
    ticks = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick, place in zip(axis.get_major_ticks(), axis.get_majorticklocs()):
            ticks |= {tick.label1, tick.label2}
            if low <= place <= high and tick.label1.get_visible():
                yield tick.label1
        ticks |= {text for tick in axis.get_minor_ticks() for text in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text not in ticks and text.get_visible() and text.get_text().strip() and text.get_gid() != STALE:
            yield text


# All figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "stale"), [(COLUMN, False), (PAGE, True)])
@pytest.mark.parametrize("name", FIGURES)
def test_text_is_within_the_page_and_apart_with_the_note_and_the_mark_if_asked_for(name, width, stale):
    figure = FIGURES[name](width=width, stale=stale)
    boxes = [(text.get_text(), text.get_window_extent()) for text in seen(figure)]
    assert figure.get_figwidth() == width
    page = figure.bbox
    assert not [said for said, box in boxes if box.x0 < -1 or box.x1 > page.x1 + 1]
    assert not [said for said, box in boxes if box.y0 < -1 or box.y1 > page.y1 + 1]
    assert not [(one, two) for (one, a), (two, b) in combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
    assert " ".join(figure.get_supxlabel().split()) == NOTE
    marks = [text for text in figure.findobj(Text) if text.get_text() == STALE]
    assert len(marks) == stale
    assert all(text.get_alpha() < 0.5 and text.get_fontsize() > 30 and text.zorder > 5 for text in marks)


def test_sizes_of_text_go_back_with_the_theme():
    use_theme()
    before = dict(mpl.rcParams)
    column_theme()
    assert mpl.rcParams["xtick.labelsize"] < before["xtick.labelsize"]
    use_theme()
    assert dict(mpl.rcParams) == before


# Arms -----------------------------------------------------------------------------------------------------------------


def test_the_baseline_comes_first_and_levels_that_are_numbers_darken():
    assert list(LOOK) == ARMS
    assert LOOK["baseline"] == BASELINE
    lightness = [np.dot(to_rgb(LOOK[arm].color), LIGHTNESS) for arm in [*ARMS[1:], "baseline"]]
    assert all(np.diff(lightness) < -0.02)


def test_an_arm_looks_the_same_whatever_the_baseline_is():
    arms = {arm: {"group_size": size} for arm, size in SIZES.items()}
    other = arm_styles(arms, "group_size=8")
    assert all(other[arm] == LOOK[arm] for arm in ("group_size=4", "group_size=128"))
    with pytest.raises(KeyError):
        arm_styles(arms, "group_size=5")


def test_the_first_factor_is_the_color_and_the_others_are_marker_and_dashes():
    arms = {f"{a}{b}{c}": {"a": a, "b": b, "c": c} for a in ("x", "y") for b in ("1e-1", "0") for c in ("p", "q")}
    arms["again"] = arms["x0q"]  # at another learning rate, say
    look = arm_styles(arms, "x0p")
    assert len({look[arm].color for arm in arms if arm.startswith("y")}) == 1
    assert look["y0q"].color != look["x0q"].color
    assert (look["y0q"].marker, look["y0q"].dashes) == (look["x0q"].marker, look["x0q"].dashes)
    assert look["y0q"].marker != look["y0p"].marker
    assert len(set(look.values())) == len(arms)


def test_levels_that_are_numbers_come_by_value_before_the_others():
    assert ordered(["none", "16", "1e-3", "all", "4", "none"]) == ["1e-3", "4", "16", "none", "all"]


def test_names_for_readers():
    assert arm_label("kl_weight") == "KL weight"
    assert arm_label("mixture") == "mixture"  # not as the method of this name


# One by one -----------------------------------------------------------------------------------------------------------


def test_heat_maps_are_the_two_columns_of_the_table():
    figure = FIGURES["heat map"]()
    mean, spread = figure.axes[:2]
    expected = [[0.4, np.nan, 0.5], [0.6, 0.7, np.nan]]  # rows 4 and 16, columns 0, 0.5 and none
    np.testing.assert_array_equal(mean.images[0].get_array().filled(np.nan), expected)
    np.testing.assert_array_equal(
        spread.images[0].get_array().filled(np.nan), [[0.04, np.nan, 0.03], [0.01, 0.02, np.nan]]
    )
    assert words(mean) == ["0.400", "\N{EN DASH}", "0.500", "0.600", "0.700", "\N{EN DASH}"]
    assert words(spread)[0] == "0.040\nn = 3"
    assert spread.images[0].get_clim() == (0.0, 0.04)
    assert [axis.get_title(loc="left") for axis in (mean, spread)] == ["mean", "std over seeds"]
    assert [tick.get_text() for tick in mean.get_yticklabels()] == ["4", "16"]
    assert [tick.get_text() for tick in mean.get_xticklabels()] == ["0", "0.5", "none"]
    assert (mean.get_ylabel(), mean.get_xlabel()) == ("group size", "KL")


def test_curves_have_a_panel_an_arm_with_its_seeds_its_mean_and_the_baseline():
    figure = FIGURES["curves"]()
    assert [axis.get_title(loc="left") for axis in figure.axes] == NAMES
    for arm, axis in zip(ARMS, figure.axes):
        own = MEANS[MEANS["arm"] == arm]
        (line,) = named(axis, arm)
        np.testing.assert_array_equal(line.get_xydata(), own[["step", "iqm"]])
        assert line.get_color() == LOOK[arm].color
        assert set(band(axis, arm)[:, 1]) == {*own["low"], *own["high"]}
        (seed,) = named(axis, "seed 2")
        drawn = SEEDS[(SEEDS["arm"] == arm) & (SEEDS["seed"] == 2)]
        np.testing.assert_array_equal(seed.get_xydata(), drawn[["step", "value"]])
        assert seed.get_linewidth() < line.get_linewidth()
        assert len(axis.lines) == 3 + 1 + (arm != "baseline")
        assert named(axis, "baseline")[0].get_ydata()[0] == 0.0
    assert figure.get_supylabel() == "accuracy"


def test_what_is_along_the_axis_is_said():
    over = SEEDS.assign(selections=512 * SEEDS["step"]), MEANS.assign(selections=512 * MEANS["step"])
    figure = arm_curves(*over, LOOK, "accuracy", NOTE, x="selections")
    figure.draw_without_rendering()
    axis = figure.axes[-1]
    assert axis.get_xlabel() == "scored selections"
    assert {"0", "20k"} <= {tick.get_text() for tick in axis.get_xticklabels()}
    assert named(axis, "group_size=128")[0].get_xdata().tolist() == [512 * step for step in STEPS]
    assert FIGURES["curves"]().axes[-1].get_xlabel() == "optimizer step"


def test_survival_goes_down_in_steps():
    figure = FIGURES["survival"]()
    axis = figure.axes[2]
    own = SURVIVING[SURVIVING["arm"] == "group_size=8"]
    (line,) = named(axis, "group_size=8")
    np.testing.assert_array_equal(line.get_xydata(), own[["step", "surviving"]])
    assert {line.get_drawstyle() for line in axis.lines} == {"steps-post"}
    corners = {tuple(corner) for corner in band(axis, "group_size=8")}
    assert (20, own["low"].iloc[0]) in corners  # the first bound holds until the second step
    assert set(band(axis, "group_size=8")[:, 1]) == {*own["low"], 1.0}


def test_the_matrix_has_both_numbers_the_color_of_the_difference_and_outlines():
    axis = FIGURES["schedules"]().axes[0]
    drawn = axis.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(drawn, [[0.0, 0.0], [-10.0, 2.5], [1.0, np.nan]])
    assert axis.images[0].get_clim() == pytest.approx((-10.0, 10.0))
    assert [tick.get_text() for tick in axis.get_yticklabels()] == NAMES[:3]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["2", "16"]
    minus, none = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert words(axis) == ["50.0", "60.0", f"40.0\n{minus}10.0", "62.5\n+2.5", "51.0\n+1.0", none]
    centers = sorted((box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2) for box in axis.patches)
    np.testing.assert_allclose(centers, [(0, 2), (1, 1)])


def test_differences_below_a_point_are_pale():
    small = MATRIX.assign(difference=MATRIX["difference"] / 1000)
    assert schedule_matrix(small, LOOK, NOTE).axes[0].images[0].get_clim() == (-1.0, 1.0)


def test_every_arm_has_the_path_of_its_seeds_mean_and_every_run_its_end():
    figure = FIGURES["frontier"]()
    (axis,) = figure.axes
    for arm, path in zip(ARMS, named(axis, "path"), strict=True):
        own = PATHS[PATHS["arm"] == arm]
        mean = [own[own["step"] == step][["kl", "log_prob"]].mean() for step in STEPS]
        np.testing.assert_allclose(path.get_xydata(), mean)
        (ends,) = named(axis, arm)
        np.testing.assert_array_equal(ends.get_xydata(), own[own["step"] == 60][["kl", "log_prob"]])
        assert ends.get_color() == path.get_color() == LOOK[arm].color
    places = axis.transData.transform([(0.0, -1.7), (0.25, -1.7), (1.0, -1.7)])[:, 0]
    assert places[2] - places[0] == pytest.approx(2 * (places[1] - places[0]))  # the axis of a square root
    assert legend_words(figure) == NAMES


def test_entropy_and_dead_groups_have_a_panel_each_named_as_in_the_curves_of_training():
    figure = FIGURES["entropy"]()
    first, second = figure.axes
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["Entropy, share of uniform", "Share of dead groups"]
    own = MEANS[MEANS["arm"] == "group_size=4"]
    np.testing.assert_array_equal(named(first, "group_size=4")[0].get_xydata(), own[["step", "iqm"]])
    assert set(band(first, "group_size=4")[:, 1]) == {*own["low"], *own["high"]}
    assert set(named(second, "group_size=4")[0].get_ydata()) == {0.5}
    assert len(first.lines) == len(first.collections) == 4


def test_importances_are_dots_and_intervals_of_each_phase_in_the_row_of_the_parameter():
    figure = FIGURES["importances"]()
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["learning rate", "clip range"]
    early, late = (named(axis, name)[0] for name in ("early", "late"))
    assert (list(early.get_xdata()), list(late.get_xdata())) == ([0.5, 0.2], [0.1, 0.7])
    np.testing.assert_array_equal(np.round(early.get_ydata()), [0, 1])
    assert (early.get_ydata() < late.get_ydata()).all()  # the axis points down
    (bars,) = [item for item in axis.collections if item.get_label() == "late"]
    assert [list(segment[:, 0]) for segment in bars.get_segments()] == [[0.0, 0.2], [0.6, 0.8]]
    np.testing.assert_array_equal([segment[0, 1] for segment in bars.get_segments()], late.get_ydata())
    assert legend_words(figure) == ["early", "late"]


def test_the_forest_has_a_row_an_effect_below_the_name_of_its_ablation():
    figure = FIGURES["forest"](width=COLUMN)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    labels = {" ".join(tick.get_text().split()): tick for tick in axis.get_yticklabels()}
    assert list(labels) == [
        "group size", "group size=4", "distilled from both of the two teachers and for longer", "KL weight", "beta=0",
    ]  # fmt: skip
    bold = {name for name, tick in labels.items() if tick.get_fontweight() == "bold"}
    assert bold == {"group size", "KL weight"}
    dots = [line for line in axis.lines if line.get_marker() != "None"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx([3, -1, -4])
    rows = dict(zip(labels, axis.get_yticks()))
    assert [line.get_ydata()[0] for line in dots] == [rows[name] for name in labels if name not in bold]
    assert list(rows.values()) == sorted(rows.values())
    bars = [item.get_segments()[0] for item in axis.collections]
    left = axis.get_xlim()[0]
    np.testing.assert_allclose([bar[:, 0] for bar in bars], [[1, 5], [-3, 1], [left, -2]])
    assert [to_hex(item.get_colors()[0]) for item in axis.collections] == [
        LOOKS[said].color for said in EFFECTS["verdict"]
    ]
    assert words(axis) == ["5", "3", "10", "seeds"]


def test_settings_are_points_parted_by_the_baseline():
    figure = FIGURES["sensitivity"]()
    (axis,) = figure.axes
    places = {line.get_label(): tuple(line.get_xydata()[0]) for line in axis.lines if line.get_label() in ARMS}
    assert places == {row.setting: (row.sensitivity, row.performance) for row in POINTS.itertuples()}
    vertical, horizontal = (line for line in axis.lines if line.get_label() not in ARMS)
    assert set(vertical.get_xdata()) == {0.1}
    assert set(horizontal.get_ydata()) == {0.5}
    assert legend_words(figure) == NAMES


def test_gains_are_a_dot_a_run_and_an_interval_a_budget():
    (axis,) = FIGURES["gains"]().axes
    runs, means = axis.lines[:2]
    assert np.round(runs.get_xdata()).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert runs.get_ydata() == pytest.approx(100 * GAINS["gain"])
    assert means.get_ydata() == pytest.approx(100 * RISES["effect"])
    ends = [segment[:, 1].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [pytest.approx([100 * low, 100 * high]) for low, high in zip(RISES["low"], RISES["high"])]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "4", "36"]


def test_profiles_have_a_panel_an_arm_over_thresholds():
    figure = FIGURES["profiles"]()
    assert [axis.get_title(loc="left") for axis in figure.axes] == NAMES
    (line,) = named(figure.axes[1], "group_size=4")
    assert line.get_xdata().tolist() == STEPS
    assert line.get_ydata() == pytest.approx(PROFILES.loc[PROFILES["arm"] == "group_size=4", "share"])
    assert "baseline" in {line.get_label() for line in figure.axes[1].lines}


def test_a_forest_of_small_and_large_effects_is_linear_where_most_of_them_are():
    broken = EFFECTS.assign(effect=[0.01, -0.02, -0.3], low=[0.0, -0.03, -0.33], high=[0.02, -0.01, -0.27])
    figure = forest(broken, NOTE)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    assert " ".join(figure.get_supxlabel().split()) == f"{NOTE} Logarithmic beyond 4 points."
    places = axis.transData.transform([(-40, 0), (-4, 0), (0, 0), (1, 0), (2, 0)])[:, 0]
    assert places[4] - places[3] == pytest.approx(places[3] - places[2])
    assert places[1] - places[0] < places[2] - places[1]
    low, high = axis.get_xlim()
    shown = [tick.get_text() for tick in axis.get_xticklabels() if low <= tick.get_position()[0] <= high]
    minus = "\N{MINUS SIGN}"
    assert [said.replace(minus, "-") for said in shown] == ["-20", "-10", "-4", "-2", "-1", "0", "1", "2", "4"]
    assert FIGURES["forest"]().axes[0].get_xscale() == "linear"
