"""The paper's claims as a forest plot: a row a claim, with its effect, its bar and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill, shorten
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grip_core.evaluation.names import label
from grip_core.figures.palette import BETTER, INK, QUIET, RULE, UNDECIDED, WORSE, use_theme

NOT_RUN_COLOR = "#b9bec6"
AXES = {"accuracy": "points of accuracy", "time": "time saved, % of the other's"}
ROW, LISTED_ROW = 0.62, 0.4  # inches of a row with an axis, and of one without


@dataclass(frozen=True)
class Look:
    """A verdict's color, and a marker and a sign for those who do not see the color."""

    color: str
    marker: str
    sign: str


LOOKS = {
    "supported": Look(BETTER, "o", "✓"),
    "contradicted": Look(WORSE, "X", "✗"),
    "undecided": Look(UNDECIDED, "D", "?"),
    "not run": Look(NOT_RUN_COLOR, "s", "-"),
}


def ledger(table: pd.DataFrame) -> Figure:
    """One panel a model and unit, rows in the table's order from the top; a model with no effects at all is listed.

    `table` is `grip_core.claims.results.ledger_table`'s, of one setting or several. Effects and bars are drawn in
    hundredths; an effect that is only described is grey.
    """
    use_theme()
    judged = table.groupby("setting")["effect"].transform(lambda effects: effects.notna().any())
    panels = [part for _, part in table.groupby(["setting", table["unit"].where(judged, "")], sort=False)]
    heights = [len(part) * (ROW if part["effect"].notna().any() else LISTED_ROW) for part in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(11.0, 0.6 + sum(heights) + 0.9 * len(panels)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, part in zip(axes.flat, panels, strict=True):
        _panel(axis, part)
    figure.legend(handles=_handles(), loc="outside lower center", ncols=len(LOOKS) + 1, fontsize=9.5)
    return figure


def _panel(axis: Axes, part: pd.DataFrame) -> None:
    axis.set_ylim(len(part) - 0.4, -0.6)
    axis.set_yticks(range(len(part)), [fill(_capital(words), 40) for words in part["words"]])
    axis.tick_params(axis="y", length=0, labelsize=9.5, labelcolor=INK)
    axis.set_ylabel("")
    axis.grid(visible=False, axis="y")
    model = _capital(part["model"].iloc[0])
    if part["effect"].notna().any():
        axis.set_title(f"{model}: {part['unit'].iloc[0]}")
        axis.set_xlabel(AXES[part["unit"].iloc[0]])
        axis.set_xlim(_limits(part))
        axis.axvline(0.0, color=RULE, lw=1.2, zorder=0)
    else:
        axis.set_title(model)
        axis.spines[:].set_visible(False)
        axis.set_xticks([])
    for height, row in enumerate(part.to_dict("records")):
        _row(axis, height, row)
        _words(axis, height, row, x=1.02 if part["effect"].notna().any() else 0.01)


def _row(axis: Axes, height: int, row: dict[Any, Any]) -> None:
    look = LOOKS[row["verdict"]]
    if pd.notna(row["effect"]):
        low, high = axis.get_xlim()
        ends = max(100 * row["low"], low), min(100 * row["high"], high)
        axis.hlines(height, *ends, colors=look.color, lw=2.4, linestyles="--" if row["stale"] else "-", zorder=2)
        face = "white" if row["stale"] else look.color
        axis.plot(100 * row["effect"], height, look.marker, ms=8, mfc=face, mec=look.color, mew=1.6, zorder=3)
        axis.plot([100 * row["bar"]] * 2, [height - 0.32, height + 0.32], color=INK, lw=1.6, zorder=1)


def _words(axis: Axes, height: int, row: dict[Any, Any], x: float) -> None:
    """The verdict and, below it, what it rests on; `x` is in widths of the axis."""
    look = LOOKS[row["verdict"]]
    color = QUIET if row["verdict"] == "not run" else look.color
    verdict = f"{look.sign} {row['verdict']}" + (" (stale)" if row["stale"] else "")
    where = axis.get_yaxis_transform()
    axis.text(x, height - 0.06, verdict, transform=where, color=color, weight="bold", fontsize=10, va="bottom")
    axis.text(x, height - 0.02, _detail(row, x > 1), transform=where, color=QUIET, fontsize=8, va="top")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _detail(row: dict[Any, Any], narrow: bool) -> str:
    """Why a claim is not judged, or the comparison that decides it."""
    if row["reason"]:
        return fill(shorten(row["reason"], 110, placeholder=" …"), 56 if narrow else 110)
    places = "" if row["k"] == "all" else f", k = {row['k']}"
    return fill(f"{label(row['method'])} against {label(row['other'])}{places}", 56)


def _limits(part: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for every effect, bar and closed end; an open end stops at the frame."""
    values = 100 * part.loc[part["effect"].notna(), ["effect", "low", "high", "bar"]].to_numpy(float)
    inside = [value for value in values.flat if abs(value) != float("inf")] + [0.0]
    margin = 0.06 * (max(inside) - min(inside)) + 0.5
    return min(inside) - margin, max(inside) + margin


def _handles() -> list[Line2D]:
    verdicts = [Line2D([], [], color=look.color, marker=look.marker, lw=2, label=said) for said, look in LOOKS.items()]
    return [*verdicts, Line2D([], [], color=INK, marker="|", ls="", ms=11, mew=1.6, label="what has to be exceeded")]
