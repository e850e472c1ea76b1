"""What arms lose on the way: their policies' entropy, and groups whose rewards are all equal and teach nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from grip_core.figures.bands import draw_band, label_x
from grip_core.figures.column_width import PAGE, arm_legend, finish, panels
from grip_core.figures.curves import PANELS
from grip_core.figures.palette import Style

TITLES = {panel.metric: panel.title for panel in PANELS}
LEAST = 2.2  # inches of a panel


def entropy(
    table: pd.DataFrame,
    look: Mapping[str, Style],
    note: str,
    *,
    x: str = "step",
    width: float = PAGE,
    stale: bool = False,
) -> Figure:
    """One panel a metric, in the order of the table, which has arm, `x`, metric, mean, low and high."""
    metrics = list(table["metric"].unique())
    figure, axes, lowest = panels(len(metrics), width, LEAST, 1.8, sharey=False)
    shown = {arm: style for arm, style in look.items() if arm in set(table["arm"])}
    for axis, metric in zip(axes, metrics, strict=True):
        for arm, style in shown.items():
            draw_band(axis, table[(table["metric"] == metric) & (table["arm"] == arm)], "mean", arm, style, x=x)
        axis.set_title(TITLES[metric])
        axis.set(xlabel="", ylabel="")
    for axis in lowest:
        label_x(axis, x)
    arm_legend(figure, shown)
    return finish(figure, note, stale)
