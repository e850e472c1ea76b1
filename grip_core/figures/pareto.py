"""Accuracy against the number of kept tokens: the trade-off that every pruning method makes."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, WARMUP, benchmark_label, label, share_label
from grip_core.figures.palette import Style, styles, use_theme

COLUMNS = 2


def pareto(table: pd.DataFrame) -> Figure:
    """One panel a benchmark; `table` has benchmark, method, k, accuracy, seed_low and seed_high (bands; NaN for none).

    The unpruned model and the one without the image are horizontal lines.
    """
    use_theme()
    benchmarks = list(table["benchmark"].unique())
    n_visual = int(table.loc[table["method"] == FULL, "k"].max())
    rows = -(-len(benchmarks) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, 4.1 * rows), squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axis, benchmark in zip(axes.flat, benchmarks, strict=False):
        _panel(axis, table[table["benchmark"] == benchmark], n_visual)
        axis.set_title(benchmark_label(benchmark))
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
    for axis in axes.flat[len(benchmarks) :]:
        axis.remove()
    handles = [_handle(name, styles(table["method"])[name]) for name in _order(table)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=10)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, n_visual: int) -> None:
    look = styles(table["method"])
    for name in (FULL, NO_IMAGE):
        level = table.loc[table["method"] == name, "accuracy"].iloc[0]
        axis.axhline(level, color=look[name].color, lw=look[name].width, ls=_dashes(look[name]), zorder=1)
    curves = table[~table["method"].isin([FULL, NO_IMAGE])]
    for name in reversed(_order(curves)):  # GRIP last, on top
        curve, style = curves[curves["method"] == name].sort_values("k"), look[name]
        axis.fill_between(curve["k"], curve["seed_low"], curve["seed_high"], color=style.color, alpha=0.15, linewidth=0)
        sns.lineplot(
            curve,
            x="k",
            y="accuracy",
            color=style.color,
            marker=style.marker,
            markersize=style.size,
            markeredgewidth=0.6,
            linewidth=style.width,
            linestyle=_dashes(style),
            errorbar=None,
            ax=axis,
            label=name,
            legend=False,
        )
    axis.set_xscale("log", base=2)
    ticks = sorted(curves["k"].unique())
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{k}\n{share_label(k, n_visual)}" for k in ticks])
    axis.set(xlabel="kept visual tokens (share)", ylabel="")
    axis.set_ylim(_limits(table))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """By the lines, not the bands: with few seeds a band may be as wide as the panel."""
    low, high = table["accuracy"].min(), table["accuracy"].max()
    margin = 0.06 * (high - low) + 0.005
    return max(0.0, low - margin), min(1.02, high + margin)


def _order(table: pd.DataFrame) -> list[str]:
    """GRIP, its warm-up, the baselines by name, the references."""
    first, last = [GRIP, WARMUP], [FULL, NO_IMAGE]
    present = set(table["method"])
    return [name for name in [*first, *sorted(present - {*first, *last}), *last] if name in present]


def _dashes(style: Style):
    return (0, style.dashes) if style.dashes else "-"


def _handle(name: str, style: Style) -> Line2D:
    return Line2D(
        [],
        [],
        color=style.color,
        marker=style.marker,
        ms=style.size,
        lw=style.width,
        ls=_dashes(style),
        label=label(name),
    )
