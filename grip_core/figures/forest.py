"""Every arm of every ablation against its baseline, on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from grip_core.figures.arms import arm_label
from grip_core.figures.column_width import PAGE, SMALL, finish, handle, legend_above, panels, wrapped
from grip_core.figures.difference import COLORS
from grip_core.figures.palette import INK, QUIET, Style

LOOKS = {
    verdict: Style(COLORS[verdict], marker, width=1.5, size=4.0)
    for verdict, marker in {"better": "o", "undecided": "D", "worse": "X"}.items()
}
LEGEND = {"better": "better than the baseline", "undecided": "undecided", "worse": "worse than the baseline"}
ROW = 0.165  # inches
NAMES = 0.3  # of the width
LINEAR, LINEAR_SHARE = 4.0, 1.5  # points: as far as effects are mostly; decades that they take of the axis, a side
TICKS = (1, 2, 4, 10, 20, 40, 80)
GAP = 0.35  # of a row, between ablations


def forest(table: pd.DataFrame, note: str, *, width: float = PAGE, stale: bool = False) -> Figure:
    """A row an arm under the name of its ablation, in the order of the table, which has ablation, arm, effect, low,
    high (shares), seeds and verdict.

    Effects are drawn in points. An end of an interval that is infinite stops at the frame. Where some are far larger
    than LINEAR, what is beyond it is drawn logarithmically, and the note says so.
    """
    rows = _rows(table, width)
    lowest = rows[-1].height
    figure, (axis,), _ = panels(1, width, width, ROW * (lowest + 1) + 0.4)
    limits = _limits(table)
    if max(map(abs, limits)) > 2 * LINEAR:
        axis.set_xscale("symlog", linthresh=LINEAR, linscale=LINEAR_SHARE)
        axis.xaxis.set_major_locator(FixedLocator([*(-size for size in TICKS[::-1]), 0, *TICKS]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        note = f"{note} Logarithmic beyond {LINEAR:g} points."
    axis.set_xlim(limits)
    axis.set_ylim(lowest + 0.6, -0.6)
    axis.axvline(0.0, color=INK, lw=0.8, zorder=1)
    for row in rows:
        if row.effect is not None:
            _draw(axis, row.height, row.effect)
    axis.set_yticks([row.height for row in rows], [row.words for row in rows])
    for tick, row in zip(axis.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.effect is None else "normal")
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    _beside(axis, 0.0, "seeds")
    axis.set(xlabel="arm minus baseline, points of accuracy", ylabel="")
    legend_above(figure, [handle(style, LEGEND[verdict]) for verdict, style in LOOKS.items()])
    return finish(figure, note, stale)


@dataclass(frozen=True)
class Row:
    """An arm, or an ablation's name."""

    height: float
    """In rows, from the top."""
    words: str
    effect: dict[Any, Any] | None = None


def _rows(table: pd.DataFrame, width: float) -> list[Row]:
    rows, top = [], 0.0
    for ablation, part in table.groupby("ablation", sort=False):
        rows.append(Row(top, arm_label(str(ablation))))
        for effect in part.to_dict("records"):
            words = wrapped(arm_label(effect["arm"]), NAMES * width, SMALL)
            more = words.count("\n")
            rows.append(Row(top + 1 + more / 2, words, effect))
            top += 1 + more
        top += 1 + GAP
    return rows


def _draw(axis: Axes, height: float, effect: dict[Any, Any]) -> None:
    style = LOOKS[effect["verdict"]]
    low, high = np.clip([100 * effect["low"], 100 * effect["high"]], *axis.get_xlim())
    axis.hlines(height, low, high, colors=style.color, lw=style.width, zorder=2)
    axis.plot(100 * effect["effect"], height, style.marker, color=style.color, ms=style.size, zorder=3)
    _beside(axis, height, str(effect["seeds"]))


def _beside(axis: Axes, height: float, words: str) -> None:
    axis.text(1.01, height, words, transform=axis.get_yaxis_transform(), va="center", fontsize=SMALL, color=QUIET)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    values = 100 * table[["effect", "low", "high"]].to_numpy(float)
    inside = [*values[np.isfinite(values)], 0.0]
    margin = 0.06 * (max(inside) - min(inside)) + 0.1
    return min(inside) - margin, max(inside) + margin
