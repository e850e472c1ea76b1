"""A forest plot: GRIP minus every other method, with intervals."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grip_core.evaluation.names import benchmark_label, label
from grip_core.figures.palette import BETTER, INK, UNDECIDED, WORSE, use_theme

COLORS = {"better": BETTER, "undecided": UNDECIDED, "worse": WORSE}
LEGEND = {"better": "GRIP is better", "undecided": "undecided", "worse": "GRIP is worse"}


def difference(table: pd.DataFrame) -> Figure:
    """One panel a benchmark; `table` has benchmark, method, effect, low, high (shares), n (images) and verdict,
    methods in the order to be drawn in, from the top."""
    use_theme()
    benchmarks = list(table["benchmark"].unique())
    methods = list(table["method"].unique())
    figure, axes = plt.subplots(
        1,
        len(benchmarks),
        figsize=(2.0 + 2.6 * len(benchmarks), 1.5 + 0.3 * len(methods)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, benchmark in zip(axes.flat, benchmarks, strict=True):
        _panel(axis, table[table["benchmark"] == benchmark], methods)
        axis.set_title(benchmark_label(benchmark))
    handles = [Line2D([], [], color=COLORS[key], marker="o", lw=2, label=text) for key, text in LEGEND.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, methods: list[str]) -> None:
    points = table.assign(method=pd.Categorical(table["method"], methods), effect=100 * table["effect"])
    axis.axvline(0.0, color=INK, lw=1.0, zorder=1)
    height = points["method"].cat.codes
    colors = points["verdict"].map(COLORS)
    axis.hlines(height, 100 * points["low"], 100 * points["high"], colors=colors, lw=2.2, zorder=2)
    sns.scatterplot(points, x="effect", y=height, hue="verdict", palette=COLORS, s=52, ax=axis, legend=False, zorder=3)
    axis.set_yticks(range(len(methods)), [label(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK)
    axis.grid(visible=True, axis="x")
    axis.set(xlabel=f"GRIP minus method, points\nn = {table['n'].max():,} images", ylabel="")
