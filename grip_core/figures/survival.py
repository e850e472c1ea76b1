"""How many runs of each arm are still not collapsed: a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from grip_core.figures.column_width import PAGE
from grip_core.figures.palette import Style
from grip_core.figures.shares import share_panels


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
    named = table.rename(columns={"surviving": "runs not collapsed"})
    words = ("runs of the arm", "their interval")
    return share_panels(named, "runs not collapsed", words, look, note, x=x, steps="post", width=width, stale=stale)
