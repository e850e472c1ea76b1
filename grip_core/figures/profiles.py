"""Performance profiles: how often a method keeps at least so much of what the image is worth."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from grip_core.figures.lines import draw_line, grouped_legend, looks
from grip_core.figures.palette import use_theme


def profiles(table: pd.DataFrame, emphasised: Collection[str]) -> Figure:
    """`table` has method, threshold, share, runs and tasks; a curve further up and to the right is better."""
    use_theme()
    look = looks(table["method"], emphasised)
    figure, axis = plt.subplots(figsize=(9, 5.2))
    figure.set_layout_engine("constrained", h_pad=0.12)
    for name, curve in table.groupby("method"):
        draw_line(axis, curve, "threshold", "share", name, look[name])
    for line in axis.lines:  # a marker at each of the many thresholds would hide the line
        line.set_markevery(12)
    axis.set(xlabel="share kept of what the image is worth", ylabel="share of runs and tasks above it")
    for spine in (axis.xaxis, axis.yaxis):
        spine.set_major_formatter(PercentFormatter(1.0, decimals=0))
    tasks = table["tasks"].iloc[0]
    note = f"{tasks} tasks (a benchmark at a budget each). 0 %: the model without the image; 100 %: the unpruned model."
    grouped_legend(figure, look, emphasised, note)
    return figure
