"""What an answer costs: the seconds of its parts by kept tokens, and accuracy against seconds or FLOPs."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from grip_core.cost.timing import PARTS
from grip_core.evaluation.evaluate import FULL
from grip_core.evaluation.names import GRIP, label
from grip_core.figures.palette import INK, QUIET, RULE, UNDECIDED, WORSE, styles, use_theme

PART_COLORS = dict(zip(PARTS, (RULE, WORSE, UNDECIDED, QUIET), strict=True))
"""Of no method: greys, and the price of choosing in red."""
PART_LABELS = {
    "encode": "encode image",
    "select": "select tokens",
    "prefill": "prefill (read prompt)",
    "decode": "decode one token",
}
MILLI = 1e3
WHISKERS = (-0.24, -0.08, 0.08, 0.24)  # beside one another, as they overlap in height


def parts(costs: pd.DataFrame, repetitions: int) -> Figure:
    """Bars of milliseconds per answer, stacked by part: a row a batch size, a column a method, a bar a budget.

    `costs` has method, k, batch, part, seconds, low and high (median and quartiles over `repetitions`). The unpruned
    model's bar is repeated at the right of every panel.
    """
    use_theme()
    batches = sorted(costs["batch"].unique())
    methods = _order(costs)
    figure, axes = plt.subplots(
        len(batches),
        len(methods),
        figsize=(1.2 + 2.1 * len(methods), 3.0 * len(batches)),
        squeeze=False,
        sharey="row",
        sharex=True,
        layout="constrained",
    )
    for row, batch in zip(axes, batches, strict=True):
        for axis, method in zip(row, methods, strict=True):
            _stack(axis, costs[(costs["batch"] == batch) & costs["method"].isin([method, FULL])])
            axis.set_xlabel("")
        row[0].set_ylabel(f"ms per answer\n(batch of {batch})")
    for axis, method in zip(axes[0], methods, strict=True):
        axis.set_title(label(method), fontsize=10.5)
    figure.supxlabel(
        f"kept visual tokens; the last bar keeps all. Bars: medians of n = {repetitions} repetitions; "
        "whiskers: quartiles of the part that ends there",
        fontsize=9.5,
    )
    handles = [Patch(color=PART_COLORS[part], label=PART_LABELS[part]) for part in PARTS]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=10)
    return figure


def _stack(axis: Axes, costs: pd.DataFrame) -> None:
    """One panel; a whisker spans the quartiles of the part whose upper edge it stands on."""
    budgets = sorted(costs["k"].unique())
    shown = costs.assign(budget=pd.Categorical(costs["k"].astype(str), [str(k) for k in budgets], ordered=True))
    sns.histplot(
        shown.assign(milliseconds=shown["seconds"] * MILLI),
        x="budget",
        weights="milliseconds",
        hue="part",
        hue_order=list(reversed(PARTS)),  # seaborn stacks from the last upwards
        palette=PART_COLORS,
        multiple="stack",
        discrete=True,
        shrink=0.75,
        alpha=1.0,
        linewidth=0,
        legend=False,
        ax=axis,
    )
    for place, k in enumerate(budgets):
        bar = costs[costs["k"] == k].set_index("part").loc[list(PARTS)]
        tops = bar["seconds"].cumsum()
        spread = [(bar["seconds"] - bar["low"]) * MILLI, (bar["high"] - bar["seconds"]) * MILLI]
        side_by_side = [place + shift for shift in WHISKERS]
        axis.errorbar(side_by_side, tops * MILLI, yerr=spread, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.5)


def accuracy_against_cost(table: pd.DataFrame, unit: str, note: str) -> Figure:
    """One panel: `table` has method, k, accuracy, accuracy_low, accuracy_high and cost, in `unit`.

    The unpruned model is a point and a horizontal line. `note` states what n is, and what the bars are.
    """
    use_theme()
    figure, axis = plt.subplots(figsize=(8.4, 5.0), layout="constrained")
    look = styles(table["method"])
    for name in [*reversed(_order(table)), FULL]:
        curve, style = table[table["method"] == name].sort_values("cost"), look[name]
        axis.errorbar(
            curve["cost"],
            curve["accuracy"],
            yerr=[curve["accuracy"] - curve["accuracy_low"], curve["accuracy_high"] - curve["accuracy"]],
            fmt="none",
            ecolor=style.color,
            elinewidth=0.9,
            alpha=0.6,
        )
        sns.lineplot(
            curve,
            x="cost",
            y="accuracy",
            color=style.color,
            marker=style.marker or "o",
            markersize=style.size,
            linewidth=style.width,
            linestyle=(0, style.dashes) if style.dashes else "-",
            errorbar=None,
            label=label(name),
            ax=axis,
        )
    axis.axhline(table.loc[table["method"] == FULL, "accuracy"].iloc[0], color=look[FULL].color, lw=0.8, zorder=0)
    axis.set_xscale("log")
    ticks = _round_ticks(float(table["cost"].min()), float(table["cost"].max()))
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{tick:g}" for tick in ticks])
    axis.set(xlabel=f"cost per answer ({unit}, log scale)\n{note}", ylabel="accuracy")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lines = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    names = [label(name) for name in [*_order(table), FULL]]
    axis.legend([lines[name] for name in names], names, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9.5)
    return figure


def _round_ticks(low: float, high: float) -> list[float]:
    """Round numbers from just below low to just above high; the more the closer these are."""
    fine = high < 10 * low
    steps = [
        digit * 10.0**power
        for power in range(-12, 16)
        for digit in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if fine else (1, 2, 5))
    ]
    return [step for step in steps if 0.95 * low <= step <= 1.05 * high]


def _order(table: pd.DataFrame) -> list[str]:
    """Methods but the unpruned model: GRIP first, then by name."""
    present = set(table["method"]) - {FULL}
    return [name for name in [GRIP, *sorted(present - {GRIP})] if name in present]
