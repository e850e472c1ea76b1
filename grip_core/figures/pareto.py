"""Accuracy against the number of kept tokens: the trade-off that every pruning method makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import benchmark_label
from grip_core.figures.groups import best_of_groups
from grip_core.figures.lines import budget_axis, draw_line, grouped_legend, line_style, looks
from grip_core.figures.palette import RULE, Style, use_theme

COLUMNS = 2
LEGEND_INCHES = 0.04  # of height, a method


def pareto(table: pd.DataFrame, questions: int | None = None, trained: tuple[int, int] | None = None) -> Figure:
    """One panel a benchmark; `table` has benchmark, method, k, accuracy, seed_low and seed_high (bands; NaN for none),
    seeds and images.

    GRIP, its warm-up and the best of each group of methods stand out, and they alone have bands. The unpruned model
    and the one without the image are horizontal lines. Budgets outside `trained`, GRIP's lowest and highest in
    training, are shaded. `questions` is the number of test questions over all benchmarks, for the note.
    """
    use_theme()
    benchmarks = list(table["benchmark"].unique())
    n_visual = int(table.loc[table["method"] == FULL, "k"].max())
    emphasised = best_of_groups(table)
    look = looks(table["method"], emphasised)
    rows = -(-len(benchmarks) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, 4.1 * rows + LEGEND_INCHES * len(look)), squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axis, benchmark in zip(axes.flat, benchmarks, strict=False):
        part = table[table["benchmark"] == benchmark]
        curves = part[~part["method"].isin([FULL, NO_IMAGE])]
        _references(axis, part, look)
        _curves(axis, curves, look, emphasised)
        budget_axis(axis, curves["k"].unique(), n_visual)
        _shade(axis, curves["k"].unique(), trained)
        axis.set_ylim(_limits(part))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.set_title(benchmark_label(benchmark))
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy (share of questions)")
    for axis in axes.flat[len(benchmarks) :]:
        axis.remove()
    grouped_legend(figure, look, emphasised, _note(table, questions, trained))
    return figure


def _references(axis: Axes, table: pd.DataFrame, look: Mapping[str, Style]) -> None:
    for name in (FULL, NO_IMAGE):
        level = table.loc[table["method"] == name, "accuracy"].iloc[0]
        axis.axhline(level, color=look[name].color, lw=look[name].width, ls=line_style(look[name]), zorder=1)


def _curves(axis: Axes, table: pd.DataFrame, look: Mapping[str, Style], emphasised: Collection[str]) -> None:
    for name, curve in table.groupby("method"):
        style = look[name]
        if name in emphasised:
            band = curve.sort_values("k")
            axis.fill_between(
                band["k"], band["seed_low"], band["seed_high"], color=style.color, alpha=0.15, linewidth=0
            )
        draw_line(axis, curve, "k", "accuracy", name, style)


def _shade(axis: Axes, budgets: Collection[int], trained: tuple[int, int] | None) -> None:
    """Grey from half way, on the logarithmic axis, between the last trained budget and the first beyond it."""
    if trained is None:
        return
    low, high = trained
    left, right = axis.get_xlim()
    above, below = [k for k in budgets if k > high], [k for k in budgets if k < low]
    if above:
        axis.axvspan((min(above) * high) ** 0.5, right, color=RULE, alpha=0.6, linewidth=0, zorder=0)
    if below:
        axis.axvspan(left, (max(below) * low) ** 0.5, color=RULE, alpha=0.6, linewidth=0, zorder=0)
    axis.set_xlim(left, right)


def _note(table: pd.DataFrame, questions: int | None, trained: tuple[int, int] | None) -> str:
    counted = "" if questions is None else f"{questions:,} questions on "
    most = table["seeds"].max()
    seeds = "1 seed" if most == 1 else f"up to {most} seeds of what is drawn or trained, 1 of the rest"
    lines = [f"n = {counted}{table['images'].max():,} images over all benchmarks; {seeds}."]
    lines.append("Bold: ours, and the best of each group by its mean accuracy here.")
    if trained is not None:
        lines.append(f"Shaded: budgets outside those of GRIP's training, {trained[0]} to {trained[1]} tokens.")
    return "\n".join(lines)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """By the lines, not the bands: with few seeds a band may be as wide as the panel."""
    low, high = table["accuracy"].min(), table["accuracy"].max()
    margin = 0.06 * (high - low) + 0.005
    return max(0.0, low - margin), min(1.02, high + margin)
