"""How many runs of each arm are still not collapsed: a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from grip_core.figures.bands import OPACITY, arm_panels, reference
from grip_core.figures.column_width import PAGE, TEXT, finish, handle, legend_above
from grip_core.figures.palette import QUIET, Style


def survival(
    table: pd.DataFrame,
    look: Mapping[str, Style],
    note: str,
    *,
    x: str = "step",
    width: float = PAGE,
    stale: bool = False,
) -> Figure:
    """`table` has arm, `x`, surviving, low and high, shares of runs; each holds until the next of its arm.

    A panel an arm, for arms that lose no run would lie on one another. The baseline is repeated, thin.
    """
    figure, axes = arm_panels(table, "surviving", look, width, 1.15, steps="post", x=x)
    for axis in axes.values():
        axis.set_ylim(0.0, 1.06)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.supylabel("runs not collapsed", fontsize=TEXT)
    legend_above(
        figure,
        [
            handle(Style(QUIET, ""), "runs of the arm"),
            Patch(color=QUIET, alpha=2 * OPACITY, lw=0, label="their interval"),
            handle(reference(look), "baseline"),
        ],
    )
    return finish(figure, note, stale)
