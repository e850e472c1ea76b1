"""Milliseconds of an answer by part against the share of visual tokens kept, a panel a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grip_core.cost.timing import PARTS
from grip_core.figures.palette import INK, use_theme
from grip_core.figures.speed import MILLI, PART_COLORS, PART_LABELS


def answer_parts(results: Mapping[str, Any]) -> Figure:
    """`results` as pipeline/bench_gpu.py measures them."""
    use_theme()
    shapes, batch = results["shapes"], results["sizes"]["batch"]
    figure, axes = plt.subplots(1, len(shapes), figsize=(4.2 * len(shapes), 3.4), squeeze=False, layout="constrained")
    for axis, (shape, found) in zip(axes[0], shapes.items(), strict=True):
        _stack(axis, pd.DataFrame(found["answer"]), batch)
        axis.set_title(f"{shape}: a step's work is {found['grpo']['step_over_floor']:.2f} of its floor", fontsize=10)
        axis.set_xlabel("visual tokens kept")
    axes[0][0].set_ylabel(f"ms per answer (batch of {batch})")
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    divided = "" if results["divisor"] == 1 else f", widths divided by {results['divisor']}"
    figure.supxlabel(
        f"{results['device']}, {results['dtype']}{divided}; medians of n = {results['sizes']['repetitions']} "
        "repetitions, whiskers: quartiles of prefill",
        fontsize=8.5,
    )
    return figure


def _stack(axis: Axes, rows: pd.DataFrame, batch: int) -> None:
    table = rows.pivot(index="keep_ratio", columns="part", values="seconds").sort_index() * MILLI / batch
    names = [f"{ratio:.0%}" for ratio in table.index]
    base = pd.Series(0.0, index=table.index)
    for part in PARTS:
        axis.bar(names, table[part], bottom=base, width=0.7, color=PART_COLORS[part], label=PART_LABELS[part])
        base = base + table[part]
    prefill = rows[rows["part"] == "prefill"].set_index("keep_ratio").sort_index()[["seconds", "low", "high"]]
    top = table[["encode", "select", "prefill"]].sum(axis=1)
    below = (prefill["seconds"] - prefill["low"]) * MILLI / batch
    above = (prefill["high"] - prefill["seconds"]) * MILLI / batch
    axis.errorbar(names, top, yerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
