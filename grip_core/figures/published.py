"""Published accuracies against kept tokens, with a user's own run beside them where the benchmarks are the same."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grip_core.evaluation.evaluate import FULL, REFERENCES
from grip_core.evaluation.names import GRIP, label
from grip_core.figures.lines import budget_axis, column_legend, draw_line, line_style, muted
from grip_core.figures.palette import DASH_DOT, STYLES, Style, styles, use_theme
from grip_core.published.numbers import BENCHMARKS, N_VISUAL

PAPER = "grip_vlm"
COLUMNS = 4
CAPTION = (
    "Thin lines are printed in papers and were not measured here. Papers disagree about one another's methods: FastV "
    "at 192 tokens\non POPE is printed as 64.8, 74.8 and 75.8. Only methods run in one harness can be compared."
)


def published(values: pd.DataFrame, own: pd.DataFrame | None = None) -> Figure:
    """One panel a benchmark of `values` (see read_published); levels are the unpruned model and, where its paper does
    not state the budget, GRIP-VLM.

    `own` has benchmark, method, k and accuracy, a share; it is drawn thick where the benchmark is one of those given in
    percent. Rows of other benchmarks and of the references are left out.
    """
    use_theme()
    names = [name for name in BENCHMARKS if name in set(values["benchmark"])]
    measured = _comparable(own, names)
    look = _looks(values)
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(13, 3.3 * rows + 1.4), squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axis, name in zip(axes.flat, names, strict=False):
        title, unit = BENCHMARKS[name]
        _panel(axis, values[values["benchmark"] == name], measured[measured["benchmark"] == name], look)
        axis.set_title(title)
        axis.set_ylabel({"percent": "%", "points": "points"}[unit])
    for axis in axes.flat[len(names) :]:
        axis.remove()
    groups = {"Printed in papers": {_words(name): style for name, style in look.items()}}
    if len(measured):
        groups["Measured here"] = {f"{label(name)}, measured": _own(name) for name in measured["method"].unique()}
    column_legend(figure, groups, [], CAPTION)
    return figure


def _comparable(own: pd.DataFrame | None, names: list[str]) -> pd.DataFrame:
    """The rows of `own` that a panel can show, with `value` in percent."""
    if own is None:
        return pd.DataFrame(columns=["benchmark", "method", "k", "value"])
    percent = [name for name in names if BENCHMARKS[name][1] == "percent"]
    references = [method.name for method in REFERENCES]
    chosen = own[own["benchmark"].isin(percent) & ~own["method"].isin(references)]
    return chosen.assign(value=100 * chosen["accuracy"])


def _looks(values: pd.DataFrame) -> dict[str, Style]:
    own = styles(values["method"]) | {PAPER: replace(STYLES[GRIP], marker="", dashes=DASH_DOT, width=1.4)}
    levels = [name for name in (FULL, PAPER) if name in set(values["method"])]
    pruned = sorted(set(values["method"]) - set(levels))
    thin = {name: replace(muted(own[name]), size=own[name].size) for name in pruned}
    return {name: own[name] for name in levels} | thin


def _own(name: str) -> Style:
    return replace(styles([name])[name], width=2.6, size=7.0)


def _words(name: str) -> str:
    return {FULL: f"All {N_VISUAL} tokens", PAPER: "GRIP-VLM (budget not stated)"}.get(name, label(name))


def _panel(axis: Axes, values: pd.DataFrame, measured: pd.DataFrame, look: dict[str, Style]) -> None:
    for row in values[values["method"].isin([FULL, PAPER])].itertuples():
        style = look[row.method]
        axis.axhline(row.value, color=style.color, lw=style.width, ls=line_style(style), zorder=1, label=row.method)
    for name, curve in values[~values["method"].isin([FULL, PAPER])].groupby("method"):
        draw_line(axis, curve.astype({"tokens": int}), "tokens", "value", name, look[name])
    for name, curve in measured.groupby("method"):
        draw_line(axis, curve, "k", "value", f"{name}, measured", _own(name))
    budgets = {64, 128, 192} | set(measured["k"])
    axis.set_xlim(min(budgets) / 1.2, max(budgets) * 1.2)
    budget_axis(axis, sorted(budgets), N_VISUAL)
