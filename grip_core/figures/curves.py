"""Learning curves of all training runs: each seed thin, their mean bold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grip_core.evaluation.curves import COLLAPSE
from grip_core.evaluation.names import GRIP, WARMUP, label
from grip_core.figures.palette import INK, STYLES, WORSE, use_theme


@dataclass(frozen=True)
class Panel:
    """What one panel draws."""

    title: str
    metric: str
    second: str | None = None
    """A metric of the same kind, to compare with."""
    names: tuple[str, str] = ("", "")
    """What the two are called, where there are two."""
    telling: Callable[[pd.Series], pd.Series] | None = None
    """Which values say anything; without any the panel is left out."""


PANELS = (
    Panel("Reward", "reward"),
    Panel("Reward std within a group", "reward_std"),
    Panel("Share of dead groups", "dead_share"),
    Panel("Validation accuracy", "accuracy", "sampled_accuracy", ("mode", "one sample")),
    Panel("Entropy, share of uniform", "entropy"),
    Panel("KL to the warm-up, per pick", "kl"),
    Panel("Overlap (Jaccard)", "overlap", "overlap_reference", ("within a group", "with the warm-up")),
    Panel("Gradient norm", "grad_norm"),
    Panel("Share clipped", "clip_share", telling=lambda values: values > 0),
    Panel("Effective sample size", "ess", telling=lambda values: values < 1),
)
COLUMNS = 4
EVALUATED = ("accuracy", "sampled_accuracy")
WINDOW = 25  # steps: training metrics are noisy, their trend is what is read
FIRST, SECOND = STYLES[GRIP].color, INK


def curves(table: pd.DataFrame) -> Figure:
    """`table` has run, step, metric, value; run "warmup" is a level to compare with, every other run a training seed.

    Training metrics are drawn as running medians over WINDOW steps; validation as it is. A mean goes as far as all
    seeds do. A run that has collapsed has a vertical line at that step in every panel.
    """
    use_theme()
    panels = [panel for panel in PANELS if _tells(table, panel)]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.6 * rows), squeeze=False)
    figure.set_layout_engine("constrained", h_pad=0.1)
    collapses = table[table["metric"].str.startswith(COLLAPSE)]
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, table, panel)
        for step in collapses["step"]:
            axis.axvline(step, color=WORSE, lw=1.2, ls=":", label="collapse")
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    figure.legend(handles=_handles(collapses), loc="outside lower center", ncols=3, fontsize=10)
    return figure


def _tells(table: pd.DataFrame, panel: Panel) -> bool:
    values = table.loc[table["metric"] == panel.metric, "value"]
    return len(values) > 0 and (panel.telling is None or bool(panel.telling(values).any()))


def _draw(axis: Axes, table: pd.DataFrame, panel: Panel) -> None:
    lines = [_lines(axis, table, panel.metric, FIRST, "-")]
    if panel.second is not None and panel.second in set(table["metric"]):
        lines.append(_lines(axis, table, panel.second, SECOND, "--"))
        axis.legend(lines, panel.names, fontsize=8.5, handlelength=1.6)
    level = table[(table["run"] == WARMUP) & (table["metric"] == panel.metric)].sort_values("step")["value"]
    if panel.metric in EVALUATED and len(level):
        style = STYLES[WARMUP]
        axis.axhline(level.iloc[-1], color=style.color, lw=style.width, ls=(0, style.dashes), label=WARMUP)
    axis.set_title(panel.title)
    axis.set(xlabel="optimizer step", ylabel="")


def _lines(axis: Axes, table: pd.DataFrame, metric: str, color: str, dashes: str) -> Line2D:
    """Draw a metric's seeds and their mean; return the mean's line."""
    chosen = table[(table["metric"] == metric) & (table["run"] != WARMUP)]
    runs = {str(name): rows.set_index("step")["value"].sort_index() for name, rows in chosen.groupby("run", sort=False)}
    if metric not in EVALUATED:
        runs = {name: values.rolling(WINDOW, min_periods=1, center=True).median() for name, values in runs.items()}
    for name, values in runs.items():
        axis.plot(values.index, values, color=color, lw=0.9, ls=dashes, alpha=0.5, label=name)
    mean = pd.DataFrame(runs).mean(axis=1, skipna=False).dropna()
    (line,) = axis.plot(mean.index, mean, color=color, lw=2.4, ls=dashes, label="mean")
    return line


def _handles(collapses: pd.DataFrame) -> list[Line2D]:
    warmup = STYLES[WARMUP]
    return [
        Line2D([], [], color=FIRST, lw=2.4, label="mean of the seeds"),
        Line2D([], [], color=FIRST, lw=0.9, alpha=0.5, label="one seed"),
        Line2D([], [], color=warmup.color, lw=warmup.width, ls=(0, warmup.dashes), label=label(WARMUP)),
        *(
            Line2D([], [], color=WORSE, lw=1.2, ls=":", label=f"collapse: {run} at step {step} ({metric})")
            for run, step, metric in zip(
                collapses["run"], collapses["step"], collapses["metric"].str.removeprefix(COLLAPSE), strict=True
            )
        ),
    ]
