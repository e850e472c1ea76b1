"""Performance profiles of an ablation: how many scores lie above an accuracy, a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from grip_core.figures.column_width import PAGE
from grip_core.figures.palette import Style
from grip_core.figures.shares import share_panels


def arm_profiles(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = PAGE, stale: bool = False
) -> Figure:
    """`table` has arm, threshold, share, low and high; a curve further up and to the right is better.

    The baseline is repeated, thin.
    """
    named = table.rename(columns={"share": "scores above it"})
    words = ("scores of the arm", "their interval")
    return share_panels(named, "scores above it", words, look, note, x="threshold", width=width, stale=stale)
