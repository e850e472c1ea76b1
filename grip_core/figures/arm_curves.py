"""Learning curves of an ablation: a panel an arm, each seed thin, their interquartile mean bold within its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from grip_core.figures.bands import OPACITY, arm_panels, reference
from grip_core.figures.column_width import PAGE, TEXT, finish, handle, legend_above
from grip_core.figures.palette import QUIET, Style


def arm_curves(
    seeds: pd.DataFrame,
    means: pd.DataFrame,
    look: Mapping[str, Style],
    quantity: str,
    note: str,
    *,
    x: str = "step",
    width: float = PAGE,
    stale: bool = False,
) -> Figure:
    """`seeds` has arm, seed, `x` and value; `means` has arm, `x`, iqm, low and high; `quantity` is what value is.

    `look` is `arm_styles`'. The baseline's mean is repeated, thin, in the panels of the others.
    """
    figure, axes = arm_panels(means, "iqm", look, width, 1.25, x=x)
    for arm, axis in axes.items():
        for seed, run in seeds[seeds["arm"] == arm].sort_values(x).groupby("seed"):
            thin: dict[str, Any] = {"lw": 0.6, "alpha": 0.5, "zorder": 1.5, "label": f"seed {seed}"}
            axis.plot(run[x], run["value"], color=look[arm].color, **thin)
    figure.supylabel(quantity, fontsize=TEXT)
    legend_above(
        figure,
        [
            handle(Style(QUIET, ""), "mean (IQM)"),
            Patch(color=QUIET, alpha=2 * OPACITY, lw=0, label="its interval"),
            Line2D([], [], color=QUIET, lw=0.6, alpha=0.7, label="one seed"),
            handle(reference(look), "baseline"),
        ],
    )
    return finish(figure, note, stale)
