"""Shares in percent that fall along an axis, a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from grip_core.figures.bands import OPACITY, Steps, arm_panels, reference
from grip_core.figures.column_width import TEXT, finish, handle, legend_above
from grip_core.figures.palette import QUIET, Style


def share_panels(
    table: pd.DataFrame,
    y: str,
    words: tuple[str, str],
    look: Mapping[str, Style],
    note: str,
    *,
    x: str,
    steps: Steps = None,
    width: float,
    stale: bool,
) -> Figure:
    """`table` has arm, `x`, low, high and `y`, whose name is written beside the panels; `words` name an arm's line and
    its band."""
    figure, axes = arm_panels(table, y, look, width, 1.15, steps=steps, x=x)
    for axis in axes.values():
        axis.set_ylim(0.0, 1.06)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.supylabel(y, fontsize=TEXT)
    line, band = words
    legend_above(
        figure,
        [
            handle(Style(QUIET, ""), line),
            Patch(color=QUIET, alpha=2 * OPACITY, lw=0, label=band),
            handle(reference(look), "baseline"),
        ],
    )
    return finish(figure, note, stale)
