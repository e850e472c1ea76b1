"""What the answer's log-probability on held-out questions costs in KL: every arm's path from the warm-up on, and the
ends of its runs.

Training's own rewards are those of a few prompts a step, whose differences would hide all else, and are another
quantity where arms differ in the reward.

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
from grip_core.figures.lines import line_style
from grip_core.figures.palette import Style


def kl_reward_frontier(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = COLUMN, stale: bool = False
) -> Figure:
    """`table` has arm, seed, step, kl and log_prob; a line an arm, the mean over its seeds, and a marker a run."""
    figure, (axis,), _ = panels(1, width, width, 2.2)
    shown = {arm: style for arm, style in look.items() if arm in set(table["arm"])}
    for arm, style in shown.items():
        own = table[table["arm"] == arm].sort_values("step")
        path = own.groupby("step")[["kl", "log_prob"]].mean()
        line: dict[str, Any] = {"lw": style.width / 1.5, "ls": line_style(style), "zorder": 2 + style.width}
        axis.plot(path["kl"], path["log_prob"], color=style.color, label="path", **line)
        ends = own.groupby("seed").last()
        mark: dict[str, Any] = {"ms": style.size - 1, "mec": "white", "mew": 0.3, "zorder": 4 + style.width}
        axis.plot(ends["kl"], ends["log_prob"], style.marker, color=style.color, label=arm, **mark)
    axis.set_xscale("function", functions=(_root, _square))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set(xlabel="KL to the warm-up, per pick", ylabel="log-probability of the answer")
    arm_legend(figure, shown)
    return finish(figure, note, stale)


def _root(values: np.ndarray) -> np.ndarray:
    """Estimates of a KL may be below zero."""
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)
