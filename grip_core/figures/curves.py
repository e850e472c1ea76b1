"""Learning curves of all training runs: each seed thin, their mean bold."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grip_core.evaluation.names import GRIP, WARMUP, label
from grip_core.figures.palette import STYLES, use_theme

PANELS = {
    "reward": "Reward of the group",
    "accuracy": "Validation accuracy (mode)",
    "kl": "KL to the warm-up, per pick",
    "entropy": "Entropy, share of uniform",
    "dead_share": "Share of dead groups",
    "grad_norm": "Gradient norm",
}
WINDOW = 25  # steps: training metrics are noisy, their trend is what is read


def curves(table: pd.DataFrame) -> Figure:
    """`table` has run, step, metric, value; run "warmup" is a level to compare with, every other run a training seed.

    Training metrics are drawn as running medians over WINDOW steps; validation as it is.
    """
    use_theme()
    panels = {metric: title for metric, title in PANELS.items() if metric in set(table["metric"])}
    rows = -(-len(panels) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(11, 2.9 * rows), squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axis, (metric, title) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, table[table["metric"] == metric], metric)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    grip, warmup = STYLES[GRIP], STYLES[WARMUP]
    handles = [
        Line2D([], [], color=grip.color, lw=2.6, label="mean of the seeds"),
        Line2D([], [], color=grip.color, lw=0.9, alpha=0.5, label="one seed"),
        Line2D([], [], color=warmup.color, lw=warmup.width, ls=(0, warmup.dashes), label=label(WARMUP)),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, metric: str) -> None:
    runs = table[table["run"] != WARMUP].pivot(index="step", columns="run", values="value")
    if metric != "accuracy":
        runs = runs.rolling(WINDOW, min_periods=1, center=True).median()
    color = STYLES[GRIP].color
    for run in runs:
        axis.plot(runs.index, runs[run], color=color, lw=0.9, alpha=0.5, label=run)
    sns.lineplot(
        x=runs.index, y=runs.mean(axis=1), color=color, lw=2.6, errorbar=None, ax=axis, label="mean", legend=False
    )
    level = table.loc[table["run"] == WARMUP].sort_values("step")["value"]
    if metric == "accuracy" and len(level):
        style = STYLES[WARMUP]
        axis.axhline(level.iloc[-1], color=style.color, lw=style.width, ls=(0, style.dashes), label=WARMUP)
    axis.set(xlabel="optimizer step", ylabel="")
