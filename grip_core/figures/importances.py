"""Which settings matter when: their importance in each phase of training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grip_core.figures.arms import MARKERS, arm_label, ramp
from grip_core.figures.cells import SIDE
from grip_core.figures.column_width import COLUMN, SMALL, finish, handle, legend_above, panels, wrapped
from grip_core.figures.palette import INK, RULE, Style

SPREAD = 0.52  # of a row, from the first phase to the last


def importances(table: pd.DataFrame, note: str, *, width: float = COLUMN, stale: bool = False) -> Figure:
    """A row a parameter and in it, from the top, a dot a phase, later ones darker; both in the order of the table,
    which has phase, parameter, importance, low and high."""
    phases, parameters = list(table["phase"].unique()), list(table["parameter"].unique())
    figure, (axis,), _ = panels(1, width, width, 0.1 * len(parameters) * (len(phases) + 1) + 0.6)
    shifts = np.linspace(-SPREAD / 2, SPREAD / 2, len(phases)) if len(phases) > 1 else [0.0]
    looks = [Style(color, marker, size=3.6) for color, marker in zip(ramp(len(phases)), MARKERS)]
    for phase, shift, style in zip(phases, shifts, looks, strict=True):
        part = table[table["phase"] == phase].set_index("parameter").reindex(parameters)
        height = np.arange(len(parameters)) + shift
        axis.hlines(height, part["low"], part["high"], colors=style.color, lw=1.2, label=phase)
        axis.plot(part["importance"], height, style.marker, color=style.color, ms=style.size, label=phase)
    axis.set_yticks(range(len(parameters)), [wrapped(arm_label(name), SIDE, SMALL) for name in parameters])
    axis.set_ylim(len(parameters) - 0.5, -0.5)
    axis.set_xlim(left=0.0)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.grid(visible=False, axis="y")
    axis.hlines(
        np.arange(1, len(parameters)) - 0.5, 0, 1, transform=axis.get_yaxis_transform(), color=RULE, lw=0.6, zorder=0
    )
    axis.grid(visible=True, axis="x")
    axis.set(xlabel="importance", ylabel="")
    legend_above(figure, [handle(style, str(phase)) for style, phase in zip(looks, phases, strict=True)])
    return finish(figure, note, stale)
