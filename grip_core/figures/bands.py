"""A line within its interval, alone or a panel an arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from grip_core.figures.arms import arm_label
from grip_core.figures.column_width import TEXT, panels, wrapped
from grip_core.figures.lines import draw_line
from grip_core.figures.palette import Style

OPACITY = 0.15
MARKERS = 6  # a line at most: one at each of a hundred steps would hide it
LABELS = {"step": "optimizer step", "selections": "scored selections", "threshold": "test accuracy"}
"""What may be along a panel, by the table's column."""
LEAST = 1.6  # inches of an arm's panel
Steps = Literal["post"] | None
"""Whether a value holds until the next, or goes there straight."""


def arm_panels(
    table: pd.DataFrame,
    y: str,
    look: Mapping[str, Style],
    width: float,
    height: float,
    steps: Steps = None,
    x: str = "step",
) -> tuple[Figure, dict[str, Axes]]:
    """The figure, and by arm, in the order of `look`, its panel with its band; `table` has arm, `x`, `y`, low, high.

    The baseline's line, the first of `look`, is repeated, thin, in the panels of the others.
    """
    baseline, *_ = look
    arms = [arm for arm in look if arm in set(table["arm"])]
    figure, axes, lowest = panels(len(arms), width, LEAST, height)
    for axis, arm in zip(axes, arms, strict=True):
        if arm != baseline:
            draw_line(axis, table[table["arm"] == baseline], x, y, baseline, reference(look))
            axis.lines[-1].set_drawstyle(_drawstyle(steps))
        draw_band(axis, table[table["arm"] == arm], y, arm, look[arm], steps, x)
        axis.set(xlabel="", ylabel="")
        axis.set_title(wrapped(arm_label(arm), axis.get_position().width * width, TEXT))
    for axis in lowest:
        label_x(axis, x)
    return figure, dict(zip(arms, axes, strict=True))


def label_x(axis: Axes, x: str) -> None:
    """Say what is along the axis; thousands are k."""
    axis.set_xlabel(LABELS[x])
    if x == "selections":
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def reference(look: Mapping[str, Style]) -> Style:
    """How the baseline is repeated beside another arm."""
    baseline, *_ = look.values()
    return replace(baseline, marker="", width=1.0)


def draw_band(
    axis: Axes, curve: pd.DataFrame, y: str, name: str, style: Style, steps: Steps = None, x: str = "step"
) -> None:
    """`curve` has `x`, `y`, low and high."""
    curve = curve.sort_values(x)
    look: dict[str, Any] = {"color": style.color, "alpha": OPACITY, "lw": 0, "label": name}
    axis.fill_between(curve[x], curve["low"], curve["high"], step=steps, **look)
    draw_line(axis, curve, x, y, name, style)
    line = axis.lines[-1]
    line.set_markevery(-(-len(curve) // MARKERS))
    line.set_drawstyle(_drawstyle(steps))


def _drawstyle(steps: Steps) -> Literal["default", "steps-post"]:
    return "steps-post" if steps else "default"
