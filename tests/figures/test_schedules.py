from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from grip_core.figures.palette import STYLES, UNDECIDED
from grip_core.figures.schedules import DOTS, TITLES, schedules
from grip_core.policy.budgets import SCHEDULES


@pytest.fixture
def table() -> pd.DataFrame:
    """Forty rollouts of three prompts. Linear: one budget a rollout. Uniform: 2, 8, 10 but for one odd rollout."""
    falling = [(rollout, 40 - rollout) for rollout in range(40) for _ in range(3)]
    spread = [(rollout, k) for rollout in range(40) for k in ([2, 8, 10] if rollout != 20 else [30, 30, 30])]
    parts = [
        pd.DataFrame(rows, columns=["rollout", "k"]).assign(schedule=name)
        for name, rows in {"linear": falling, "uniform": spread}.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_every_schedule_has_a_title():
    assert list(TITLES) == list(SCHEDULES)


def test_one_panel_a_schedule_and_the_one_in_use_is_marked(table):
    uniform, linear = schedules(table, "linear").axes
    assert uniform.get_title(loc="left") == "Uniform"
    assert linear.get_title(loc="left") == "Linear annealing (in use)"
    colors = [to_hex(axis.collections[0].get_facecolor()[0]) for axis in (uniform, linear)]
    assert colors == [UNDECIDED, STYLES["grip"].color]


def test_dots_are_what_was_drawn(table):
    for axis, name in zip(schedules(table, "linear").axes, ["uniform", "linear"]):
        drawn = table.loc[table["schedule"] == name, ["rollout", "k"]]
        np.testing.assert_array_equal(np.asarray(axis.collections[0].get_offsets()), drawn)


def test_too_many_dots_are_thinned_over_the_whole_run(table):
    many = pd.concat([table.assign(rollout=table["rollout"] + 40 * i) for i in range(100)]).sort_values("rollout")
    for axis in schedules(many, "linear").axes:
        rollout = np.asarray(axis.collections[0].get_offsets())[:, 0]
        assert DOTS / 2 < len(rollout) <= DOTS
        assert rollout.min() == 0
        assert rollout.max() > 3990


def test_medians_are_smoothed_only_where_prompts_differ(table):
    uniform, linear = (axis.lines[0] for axis in schedules(table, "linear").axes)
    assert set(uniform.get_ydata()) == {8.0}  # one odd rollout does not move it
    np.testing.assert_array_equal(linear.get_ydata(), 40 - np.arange(40))  # exact, at its ends too


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(1, 36, [1, 2, 4, 8, 16, 36]), (5, 5, [5]), (3, 64, [3, 4, 8, 16, 32, 64])]
)
def test_the_axis_names_the_ends_of_the_range(low, high, ticks):
    table = pd.DataFrame({"schedule": "uniform", "rollout": [0, 1], "k": [low, high]})
    axis = schedules(table, "uniform").axes[0]
    assert axis.get_yscale() == "log"
    axis.figure.draw_without_rendering()
    assert [label.get_text() for label in axis.get_yticklabels()] == [str(k) for k in ticks]
