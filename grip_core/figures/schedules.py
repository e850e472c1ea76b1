"""The budgets that each schedule draws over a run, side by side; the schedule in use stands out."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from grip_core.evaluation.names import GRIP
from grip_core.figures.palette import INK, STYLES, UNDECIDED, use_theme

TITLES = {
    "constant": "Constant",
    "uniform": "Uniform",
    "log_uniform": "Log-uniform",
    "linear": "Linear annealing",
    "cosine": "Cosine annealing",
    "staged": "Staged",
    "mixture": "Mixture",
    "adaptive": "Adaptive",
}
IN_USE, OTHER = STYLES[GRIP].color, UNDECIDED
COLUMNS = 4
DOTS = 1600  # a panel: enough to show where budgets are dense, few enough to leave gaps where they are not
WINDOW = 25  # rollouts: the median of a few prompts is noisy, its trend is what is read


def schedules(table: pd.DataFrame, in_use: str) -> Figure:
    """One panel a schedule; `table` has schedule, rollout and k, a row a prompt, and `in_use` is one of the schedules.

    Dots are the budgets drawn, evenly thinned to DOTS. The line is their median, running over WINDOW rollouts unless
    the prompts of a rollout always share a budget.
    """
    use_theme()
    names = [name for name in TITLES if name in set(table["schedule"])]
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, 2.5 * rows + 0.3), sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.08)
    for axis, name in zip(axes.flat, names, strict=False):
        if name == in_use:
            _panel(axis, table[table["schedule"] == name], IN_USE)
            axis.set_title(f"{TITLES[name]} (in use)", color=IN_USE)
        else:
            _panel(axis, table[table["schedule"] == name], OTHER)
            axis.set_title(TITLES[name])
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis in axes[-1]:
        axis.set_xlabel("rollout")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axis in axes[:, 0]:
        axis.set_ylabel("budget k")
    _scale(axes[0, 0], int(table["k"].min()), int(table["k"].max()))
    handles = [
        Line2D([], [], color=IN_USE, ls="", marker="o", ms=5, label="one prompt, schedule in use"),
        Line2D([], [], color=OTHER, ls="", marker="o", ms=5, label="one prompt, other schedules"),
        Line2D([], [], color=INK, lw=2.0, label="median"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, color: str) -> None:
    shown = table.iloc[:: -(-len(table) // DOTS)]
    look = {"s": 10, "alpha": 0.35, "linewidth": 0, "rasterized": True}  # thousands of dots as vectors are megabytes
    sns.scatterplot(shown, x="rollout", y="k", color=color, ax=axis, legend=False, **look)
    budgets = table.groupby("rollout")["k"]
    median = budgets.median()
    if budgets.nunique().max() > 1:
        median = median.rolling(WINDOW, min_periods=1, center=True).median()
    sns.lineplot(x=median.index, y=median, color=INK, lw=2.0, errorbar=None, ax=axis)
    axis.set(xlabel="", ylabel="")


def _scale(axis: Axes, low: int, high: int) -> None:
    """A logarithmic axis, named at both ends of the range and at the powers of two that have room between."""
    between = [2**power for power in range(high.bit_length()) if 1.3 * low < 2**power < high / 1.3]
    axis.set_yscale("log", base=2)
    axis.set_ylim(low / 1.25, high * 1.25)
    axis.yaxis.set_major_locator(FixedLocator(sorted({low, *between, high})))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_locator(NullLocator())
