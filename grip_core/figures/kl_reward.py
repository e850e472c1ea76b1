"""What reward costs in KL: the path of every run, from the warm-up on.

The axis of the KL is that of its square root, in which rewards rise about evenly at first (Bai et al. 2022; Gao et al.
2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from grip_core.figures.column_width import COLUMN, arm_legend, finish, panels
from grip_core.figures.palette import Style


def kl_reward_frontier(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = COLUMN, stale: bool = False
) -> Figure:
    """`table` has arm, seed, step, kl and reward; a line a run, with a marker where it ends."""
    figure, (axis,), _ = panels(1, width, width, 2.2)
    shown = {arm: style for arm, style in look.items() if arm in set(table["arm"])}
    for arm, style in shown.items():
        for _, run in table[table["arm"] == arm].sort_values("step").groupby("seed"):
            axis.plot(run["kl"], run["reward"], color=style.color, lw=0.6, alpha=0.4, label="path", zorder=2)
            end: dict[str, Any] = {"ms": style.size, "mec": "white", "mew": 0.4, "zorder": 2 + style.width}
            axis.plot(run["kl"].iloc[-1:], run["reward"].iloc[-1:], style.marker, color=style.color, label=arm, **end)
    axis.set_xscale("function", functions=(_root, _square))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set(xlabel="KL to the warm-up, per pick", ylabel="reward")
    arm_legend(figure, shown)
    return finish(figure, note, stale)


def _root(values: np.ndarray) -> np.ndarray:
    """Estimates of a KL may be below zero."""
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)
