"""Performance profiles of an ablation: how many scores lie above an accuracy, a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from grip_core.figures.bands import OPACITY, arm_panels, reference
from grip_core.figures.column_width import PAGE, TEXT, finish, handle, legend_above
from grip_core.figures.palette import QUIET, Style


def arm_profiles(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = PAGE, stale: bool = False
) -> Figure:
    """`table` has arm, threshold, share, low and high; a curve further up and to the right is better.

    The baseline is repeated, thin.
    """
    figure, axes = arm_panels(table, "share", look, width, 1.15, x="threshold")
    for axis in axes.values():
        axis.set_ylim(0.0, 1.04)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.supylabel("scores above it", fontsize=TEXT)
    legend_above(
        figure,
        [
            handle(Style(QUIET, ""), "scores of the arm"),
            Patch(color=QUIET, alpha=2 * OPACITY, lw=0, label="its interval"),
            handle(reference(look), "baseline"),
        ],
    )
    return finish(figure, note, stale)
