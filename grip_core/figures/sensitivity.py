"""How well a setting does against how much it owes to being tuned for each task (the plane of Adkins et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from grip_core.figures.column_width import COLUMN, arm_legend, finish, panels
from grip_core.figures.palette import QUIET, Style

REFERENCE: dict[str, Any] = {"color": QUIET, "lw": 0.8, "ls": (0, (3, 2)), "zorder": 1}


def sensitivity(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = COLUMN, stale: bool = False
) -> Figure:
    """A point a setting; `table` has setting, performance and sensitivity, and `look` the settings' styles.

    Lines through the baseline, the first of `look`, part the plane: above and left of them is better in both.
    """
    figure, (axis,), _ = panels(1, width, width, 2.2)
    points = table.set_index("setting")
    shown = {name: style for name, style in look.items() if name in points.index}
    baseline, *_ = look
    if baseline in shown:
        axis.axvline(points.loc[baseline, "sensitivity"], **REFERENCE)
        axis.axhline(points.loc[baseline, "performance"], **REFERENCE)
    for name, style in shown.items():
        place = points.loc[name, ["sensitivity", "performance"]]
        axis.plot(*place, style.marker, color=style.color, ms=1.5 * style.size, label=name, zorder=3)
    axis.margins(0.12)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set(xlabel="sensitivity: what tuning for each task gains", ylabel="performance")
    arm_legend(figure, shown)
    return finish(figure, note, stale)
