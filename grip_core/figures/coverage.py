"""Where on the image the methods keep patches, and how much of it is left far from any kept one."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from grip_core.evaluation.names import GRIP, WARMUP, benchmark_label, label
from grip_core.figures.groups import grouped
from grip_core.figures.lines import budget_axis, draw_line, grouped_legend, looks
from grip_core.figures.palette import use_theme

COLORS = "cividis"  # even to readers with any common color vision, dark to light
MAP_COLUMNS, CURVE_COLUMNS = 6, 3
TOP = 4  # times the even share: where the colors end, or a fixed grid's 100 % would leave the others dark


def keep_heat_maps(table: pd.DataFrame, k: int) -> Figure:
    """One map a method, on one color scale from 0; `table` has method, row, column, share and n, at budget k.

    Shares beyond TOP times the even one, k / N, all have the last color. Of methods that merge patches, those that the
    merged ones stand for are shown.
    """
    use_theme()
    methods = [name for names in grouped(table["method"]).values() for name in names]
    columns = min(MAP_COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns + 0.9, 2.2 * rows + 0.5), squeeze=False, layout="constrained"
    )
    patches = len(table) // len(methods)
    highest = table["share"].max()
    top = min(highest, TOP * k / patches)
    for axis, name in zip(axes.flat, methods, strict=False):
        part = table[table["method"] == name]
        share_HW = part.pivot(index="row", columns="column", values="share")
        # Not seaborn's heatmap: it draws the whole figure for every map, to see whether labels overlap.
        axis.imshow(share_HW, vmin=0.0, vmax=top, cmap=COLORS)
        axis.set(xticks=[], yticks=[], xlabel="", ylabel="")
        axis.grid(visible=False)
        axis.set_title(f"{label(name)}\nn = {part['n'].iloc[0]:,}", fontsize=10, weight="normal")
    for axis in axes.flat[len(methods) :]:
        axis.remove()
    shown = figure.axes[: len(methods)]
    bar = figure.colorbar(
        shown[0].images[0],
        ax=shown,
        fraction=0.04,
        format=PercentFormatter(1.0),
        extend="max" if highest > top else "neither",
    )
    bar.set_label("share of answers that keep the patch")
    title = f"Where patches are kept, k = {k} of {patches} (evenly: {k / patches:.1%} each)"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def coverage_curves(
    table: pd.DataFrame, n_visual: int, emphasised: Collection[str] = (GRIP, WARMUP, "random", "grid")
) -> Figure:
    """One panel a benchmark; `table` has benchmark, method, k, distance (in sides of a patch) and n."""
    use_theme()
    pruned = table[table["k"] < n_visual]
    benchmarks = list(pruned["benchmark"].unique())
    look = looks(pruned["method"], emphasised)
    columns = min(CURVE_COLUMNS, len(benchmarks))
    rows = -(-len(benchmarks) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 3.6 * rows + 1.2), squeeze=False, sharey=True)
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axis, benchmark in zip(axes.flat, benchmarks, strict=False):
        part = pruned[pruned["benchmark"] == benchmark]
        for name, curve in part.groupby("method"):
            draw_line(axis, curve, "k", "distance", name, look[name])
        budget_axis(axis, part["k"].unique(), n_visual)
        axis.set_ylim(bottom=0.0)
        axis.set_title(benchmark_label(benchmark))
    for axis in axes[:, 0]:
        axis.set_ylabel("mean distance of a patch\nto the nearest kept one (patches)")
    for axis in axes.flat[len(benchmarks) :]:
        axis.remove()
    counts = pruned["n"].unique()
    note = f"n = {counts.min():,} to {counts.max():,} answers a point (questions times seeds); 0 when all are kept."
    grouped_legend(figure, look, emphasised, note)
    return figure
